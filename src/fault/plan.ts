import {
  type Direction,
  type Grid,
  neighbour,
  parseLinkName,
  placement,
  podTorus,
} from '../fabric/torus.ts';

/**
 * A fault plan: a run, the faults that are injected into it, and what must hold afterwards. The
 * position of a fault is usually a step and a phase, not a time. So the same plan can run on every
 * kind of pod, and its text alone is enough to repeat the run.
 */
export interface FaultPlan {
  /** Settings of the run, as in a `--config` file. Settings that are absent have their defaults. */
  readonly run: Readonly<Record<string, unknown>>;
  readonly faults: readonly Fault[];
  /** Further faults, drawn from a seed before the run begins. */
  readonly chance?: Chance;
  readonly expect: Expectations;
}

/**
 * Kinds of pods on which a plan can run: a simulated pod, or a pod of threads, processes or
 * containers.
 */
export const grounds = ['sim', 'threads', 'processes', 'containers'] as const;
/** One of {@link grounds}. */
export type Ground = (typeof grounds)[number];

/** Phases of a step in which a worker can inject a fault, in the order of the step. */
export const workerPhases = [
  'infeed',
  'compute',
  'reduce-scatter',
  'all-reduce',
  'all-gather',
  'update',
  'outfeed',
] as const;

/**
 * Phases of a step in which a fault can be injected, in the order in which a Cloud TPU passes
 * through them. The gradients of a step are divided into buckets, and each bucket is summed on its
 * own. The sum of a bucket has three phases: a reduce-scatter along one axis of the torus, an
 * all-reduce along the other axis, and an all-gather along the first axis again.
 */
export const stepPhases: readonly [...typeof workerPhases, 'commit', 'checkpoint', 'evaluate'] = [
  ...workerPhases,
  'commit',
  'checkpoint',
  'evaluate',
];
/** One of {@link stepPhases}. */
export type StepPhase = (typeof stepPhases)[number];

/**
 * Phases of a membership in which a fault can be injected. A membership is the set of workers that
 * run the slice. After a loss the master begins a new membership.
 */
export const membershipPhases = ['joining', 'loading', 'restoring'] as const;
/** One of {@link membershipPhases}. */
export type MembershipPhase = (typeof membershipPhases)[number];

/**
 * Phases in which the gradients of a bucket travel from Cloud TPU to Cloud TPU, hop by hop. Only
 * positions in these phases have a bucket and a hop.
 */
export const collectivePhases = ['reduce-scatter', 'all-reduce', 'all-gather'] as const;

/** A phase of a step or of a membership. */
export type AnyPhase = StepPhase | MembershipPhase;

/** True if the phase is one of a membership. */
export function isMembershipPhase(phase: string | undefined): phase is MembershipPhase {
  return (membershipPhases as readonly unknown[]).includes(phase);
}

/**
 * True if the phase is one of {@link collectivePhases}. A position in such a phase may have a
 * bucket and a hop.
 */
export function isCollective(phase: string | undefined): boolean {
  return (collectivePhases as readonly unknown[]).includes(phase);
}

/**
 * Position of a fault in a run: a point in a step, a point in a membership, or a wall time
 * (`afterMs`).
 */
export type Position = StepPosition | MembershipPosition | TimePosition;

/** Position in a step. */
export interface StepPosition {
  /**
   * Number of the step, from 1, as in logs. If the phase is `evaluate`, this is instead the number
   * of a batch of the evaluation, from 1.
   */
  readonly step: number;
  /** The fault takes effect when this phase begins. Default: `compute`. */
  readonly phase?: StepPhase;
  /** Index of the bucket, from 0. Only in the phases of a collective; default: the first bucket. */
  readonly bucket?: number;
  /** Index of the hop in the phase, from 0. Only in the phases of a collective; default: 0. */
  readonly hop?: number;
}

/** A moment in a membership: while the Cloud TPU joins, loads its programs or gets parameters. */
export interface MembershipPosition {
  readonly during: MembershipPhase;
  /**
   * Smallest number of a membership, from 1, in which the fault may take effect. Default: 1. The
   * fault takes effect in the first membership from this number on that reaches the phase. An exact
   * number cannot be given, because the number of memberships that follow a loss depends on timing.
   */
  readonly generation?: number;
}

/** Position in wall time, for faults that no logical position can express. */
export interface TimePosition {
  /** Time, in ms, since the pod was ready for the first step. */
  readonly afterMs: number;
}

/** Duration of a fault that ends. Exactly one of `steps` and `ms` is given. */
export interface Duration {
  /** Number of steps. The step in which the fault begins counts as the first. */
  readonly steps?: number;
  readonly ms?: number;
}

/** Faults that the worker of a Cloud TPU does not outlive. */
export const endingFaults = ['kill', 'exit', 'throw', 'out-of-memory', 'hang'] as const;
/** One of {@link endingFaults}. */
export type EndingFault = (typeof endingFaults)[number];

/** Faults of how a worker joins the pod. */
export const joinFaults = ['join-twice', 'join-late', 'wrong-version'] as const;
/** One of {@link joinFaults}. */
export type JoinFaultKind = (typeof joinFaults)[number];

/** Other faults of the worker of one Cloud TPU. */
export const otherWorkerFaults = ['pause', 'slow', 'clock-jump', 'flip-bit', 'stuck-cell'] as const;

/** Faults of links that affect frames with tensors and no other frames. */
export const frameFaults = [
  'lose',
  'duplicate',
  'reorder',
  'truncate',
  'corrupt',
  'reset',
] as const;

/** Faults of links. */
export const linkFaults: readonly ['link-down', 'delay', 'bandwidth', ...typeof frameFaults] = [
  'link-down',
  'delay',
  'bandwidth',
  ...frameFaults,
];
/** One of {@link linkFaults}. */
export type LinkFaultKind = (typeof linkFaults)[number];

/** Faults of a disk. */
export const diskFaults = [
  'disk-full',
  'slow-disk',
  'torn-write',
  'lost-rename',
  'unreadable-checkpoint',
] as const;

/** Faults of the master. */
export const masterFaults = [
  'master-kill',
  'master-pause',
  'master-cut-off',
  'second-master',
] as const;

/** Faults of several Cloud TPUs at once. */
export const groupFaults = ['lose-row', 'lose-column', 'partition'] as const;

/** Kind of a fault. */
export type FaultKind = Fault['fault'];

/** All kinds of faults. */
export const faultKinds: readonly FaultKind[] = [
  ...endingFaults,
  ...otherWorkerFaults,
  ...joinFaults,
  ...linkFaults,
  ...diskFaults,
  ...masterFaults,
  ...groupFaults,
];

interface At {
  readonly at: Position;
}

interface Lasting {
  /**
   * How long the fault lasts. If absent, the fault lasts until the end of the run. There is one
   * exception: a fault of {@link frameFaults} with neither `for` nor `share` affects one frame. The
   * fault `reset` always affects one frame.
   */
  readonly for?: Duration;
}

/** A fault with its target, its position and its parameters. */
export type Fault =
  /**
   * A fault that the worker does not outlive:
   *
   * - `kill`: the worker is killed and cannot send a last message;
   * - `exit`: the program of the worker exits;
   * - `throw`: the program of the worker throws an error;
   * - `out-of-memory`: the heap of the worker is full;
   * - `hang`: the worker stands still for ever.
   */
  | (At & {
      readonly fault: EndingFault;
      readonly tpu: number;
    })
  /** The worker stands still for the time `for`, then goes on. */
  | (At & { readonly fault: 'pause'; readonly tpu: number; readonly for: Duration })
  /** A straggler: every instruction of the worker takes `factor` times as long. */
  | (At & Lasting & { readonly fault: 'slow'; readonly tpu: number; readonly factor: number })
  /** The clock of the worker jumps by `ms`, which may be negative. */
  | (At & { readonly fault: 'clock-jump'; readonly tpu: number; readonly ms: number })
  /** One bit of the worker's memory flips. */
  | (At & {
      readonly fault: 'flip-bit';
      readonly tpu: number;
      readonly in: Memory;
      readonly bit?: number;
    })
  /** One cell of an MXU is damaged: in each product of the cell, one bit is always 1. */
  | (At &
      Lasting & {
        readonly fault: 'stuck-cell';
        readonly tpu: number;
        readonly core: number;
        readonly row: number;
        readonly column: number;
      })
  | (At & { readonly fault: 'join-twice' | 'wrong-version'; readonly tpu: number })
  | (At & { readonly fault: 'join-late'; readonly tpu: number; readonly ms: number })
  | LinkFault
  | (At & Lasting & { readonly fault: 'disk-full' })
  | (At & Lasting & { readonly fault: 'slow-disk'; readonly ms: number })
  | (At & { readonly fault: 'torn-write' | 'lost-rename' | 'unreadable-checkpoint' })
  | (At & { readonly fault: 'master-kill' | 'second-master' })
  | (At & { readonly fault: 'master-pause' | 'master-cut-off'; readonly for: Duration })
  | (At & { readonly fault: 'lose-row'; readonly row: number })
  | (At & { readonly fault: 'lose-column'; readonly column: number })
  /** Nothing passes between different groups of Cloud TPUs. The master is with the first group. */
  | (At &
      Lasting & { readonly fault: 'partition'; readonly groups: readonly (readonly number[])[] });

/** Memory in which a bit can flip. */
export const memories = ['frame', 'reduce-buffer', 'weights', 'hbm'] as const;
/** One of {@link memories}. */
export type Memory = (typeof memories)[number];

/** A fault of directed links. */
export interface LinkFault extends At, Lasting {
  readonly fault: LinkFaultKind;
  /**
   * The links that have the fault, in one of two forms. A text is the name of one directed link
   * between chips, such as `chip(3,1)+x`. A pair has the numbers of two neighbouring Cloud TPUs,
   * and means all links from the first to the second.
   */
  readonly link: string | readonly [number, number];
  /** True if the fault also affects the links of the opposite direction. Default: false. */
  readonly both?: boolean;
  /**
   * Only for `delay`. Each frame arrives late. The delay is `ms` plus a random time from 0 to
   * `jitterMs`. Both are in ms.
   */
  readonly ms?: number;
  readonly jitterMs?: number;
  /** Only for `bandwidth`: the bytes a second that the link still carries, at least 1. */
  readonly bytesPerSecond?: number;
  /**
   * Only for `lose`, `duplicate`, `reorder`, `corrupt` and `truncate`: share of the link's frames
   * that the fault affects, greater than 0 and at most 1. If the share is absent, a fault with a
   * duration (`for`) affects all frames, and a fault without a duration affects one frame.
   */
  readonly share?: number;
}

/** Faults that are drawn from a seed. */
export interface Chance {
  readonly seed: number;
  /** Mean number of steps between two faults of the run. Faults of all Cloud TPUs count. */
  readonly mtbfSteps: number;
  /** Relative frequency of each kind of fault. */
  readonly weights: Readonly<Partial<Record<DrawnKind, number>>>;
}

/** Kinds that a {@link Chance} can draw. All of them are faults of one worker. */
export const drawnKinds = ['kill', 'exit', 'throw', 'hang', 'pause', 'slow', 'flip-bit'] as const;
/** One of {@link drawnKinds}. */
export type DrawnKind = (typeof drawnKinds)[number];

/** Paths that a recovery can take. */
export const recoveryPaths = [
  'peer-recovery',
  'adoption',
  'checkpoint-recovery',
  'quarantine',
] as const;
/** One of {@link recoveryPaths}. */
export type RecoveryPath = (typeof recoveryPaths)[number];

/** What must hold after a run with faults. Each entry is one line of the verdict. */
export interface Expectations {
  /** `bit-identical`: weights and losses are those of the run without faults. */
  readonly weights?: 'bit-identical';
  /**
   * `exactly-once`: every committed step used the examples at its position in the stream of
   * examples, each of them once.
   */
  readonly samples?: 'exactly-once';
  /** `committed-once`: every step is committed once, in order. */
  readonly steps?: 'committed-once';
  readonly recovery?: {
    /** Bound of the number of committed steps that ran again, such as `<=1`. */
    readonly steps?: string;
    /** Bound of the time from a fault to its first report, such as `<2s`. */
    readonly detection?: string;
    /** Bound of the time from a fault to the first commit after its report, such as `<10s`. */
    readonly time?: string;
  };
  /**
   * `named`: the first note or `straggler` event after each fault must name the Cloud TPU that the
   * fault hits.
   */
  readonly culprit?: 'named';
  /** Recovery paths, each of which the run must have taken. */
  readonly sometimes?: readonly RecoveryPath[];
  /** Bound of the goodput (share of the training time spent on steps that count), such as `>=0.9`. */
  readonly goodput?: string;
  /** How the run ends. Default: `done`. */
  readonly outcome?: 'done' | 'failed';
}

/** True if the worker does not outlive the fault. */
export function endsWorker(fault: Fault): fault is Fault & { readonly fault: EndingFault } {
  return (endingFaults as readonly string[]).includes(fault.fault);
}

/** True if the kind of fault is one of links. */
export function isLinkKind(kind: string): kind is LinkFaultKind {
  return (linkFaults as readonly string[]).includes(kind);
}

/** True if the fault is one of how a worker joins: twice, late or with another version. */
export function isJoinFault(fault: Fault): fault is Fault & { readonly fault: JoinFaultKind } {
  return (joinFaults as readonly string[]).includes(fault.fault);
}

/** Returns true if the fault is one of a link. */
export function isLinkFault(fault: Fault): fault is LinkFault {
  return isLinkKind(fault.fault);
}

/** True if the fault is one of {@link frameFaults}. */
export function isFrameFault(fault: Fault): fault is LinkFault {
  return (frameFaults as readonly string[]).includes(fault.fault);
}

/**
 * True if the fault affects only one frame. This is so for a fault of {@link frameFaults} with
 * neither a duration nor a share. A `reset` always affects one frame, because it ends the
 * connection.
 */
export function hitsOneFrame(fault: Fault): boolean {
  if (!isFrameFault(fault)) return false;
  return fault.fault === 'reset' || (fault.for === undefined && fault.share === undefined);
}

/**
 * Returns the phase in which a fault is injected. If the position of the fault has a step but no
 * phase, the phase is `compute`. If the position is a wall time (`afterMs`), there is no phase, and
 * the result is undefined.
 */
export function phaseOf({ at }: Fault): AnyPhase | undefined {
  if ('during' in at) return at.during;
  return 'step' in at ? (at.phase ?? 'compute') : undefined;
}

/**
 * Returns a short name of a fault: its kind and, if the fault names a Cloud TPU, the number of this
 * Cloud TPU. An example is `kill of Cloud TPU 3`.
 */
export function faultNameOf(fault: Fault): string {
  return `${fault.fault}${'tpu' in fault ? ` of Cloud TPU ${fault.tpu}` : ''}`;
}

/** A fault of a disk. */
export type DiskFault = Fault & { readonly fault: (typeof diskFaults)[number] };
/** A fault of the master. */
export type MasterFault = Fault & { readonly fault: (typeof masterFaults)[number] };

/** Returns true if the fault is one of a disk. */
export function isDiskFault(fault: Fault): fault is DiskFault {
  return (diskFaults as readonly string[]).includes(fault.fault);
}

/** Returns true if the fault is one of the master. */
export function isMasterFault(fault: Fault): fault is MasterFault {
  return (masterFaults as readonly string[]).includes(fault.fault);
}

/** True if a fault takes effect when the master commits a step or saves a checkpoint. */
export function isInMaster({ at }: Fault): boolean {
  return 'step' in at && (at.phase === 'commit' || at.phase === 'checkpoint');
}

/** True if a fault has an effect only in a run that saves checkpoints. */
export function needsCheckpoints(fault: Fault): boolean {
  const kinds: readonly FaultKind[] = ['slow-disk', 'lost-rename', 'unreadable-checkpoint'];
  const { at } = fault;
  return kinds.includes(fault.fault) || ('step' in at && at.phase === 'checkpoint');
}

/**
 * Returns the Cloud TPUs that a fault hits. The list is empty for a fault that hits no Cloud TPU,
 * such as a fault of a link. A partition hits all groups except the first: the first group still
 * reaches the master, and the other groups do not.
 */
export function targetsOf(fault: Fault, { columns, rows }: Grid): readonly number[] {
  switch (fault.fault) {
    case 'lose-row':
      return Array.from({ length: columns }, (_, x) => fault.row * columns + x);
    case 'lose-column':
      return Array.from({ length: rows }, (_, y) => y * columns + fault.column);
    case 'partition':
      return fault.groups.slice(1).flat();
    default:
      return 'tpu' in fault ? [fault.tpu] : [];
  }
}

/**
 * Returns the Cloud TPUs that a fault may hit. A report is right if it names one of them. A fault
 * of a link may hit the Cloud TPUs at both ends of the link. A fault that cuts off the master may
 * hit every Cloud TPU.
 */
export function hitBy(fault: Fault, grid: Grid): readonly number[] {
  if (isLinkFault(fault)) return endsOf(fault, grid);
  if (fault.fault !== 'master-cut-off') return targetsOf(fault, grid);
  return Array.from({ length: grid.columns * grid.rows }, (_, tpu) => tpu);
}

/** Returns the Cloud TPUs at the two ends of a link: first the sender, then the receiver. */
export function endsOf({ link }: Pick<LinkFault, 'link'>, grid: Grid): readonly [number, number] {
  if (typeof link !== 'string') return link;
  const torus = podTorus(grid);
  const number = parseLinkName(torus, link);
  const chip = number >> 2;
  const far = neighbour(torus, chip, (number & 3) as Direction);
  return [placement(torus, chip).worker, placement(torus, far).worker];
}
