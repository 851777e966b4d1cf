import type { Topology } from '../fabric/torus.ts';
import { mulberry32 } from '../numerics/generator.ts';
import { type Case, type CaseRun, planOf } from './case.ts';
import { type DrawableKind, Draws, drawableKinds } from './draw.ts';
import { mustRecover, reasonNotDrawn } from './fair.ts';
import { hopsOf } from './hops.ts';
import {
  type AnyPhase,
  endingFaults,
  endsWorker,
  type Fault,
  type FaultPlan,
  type Ground,
  isCollective,
  isDiskFault,
  isMasterFault,
  isMembershipPhase,
  membershipPhases,
  needsCheckpoints,
  type Position,
  phaseOf,
  type StepPhase,
  stepPhases,
  workerPhases,
} from './plan.ts';
import { supported } from './support.ts';

/** Bounds within which random plans are drawn. */
export interface Shape {
  /** Topologies of the slices. A topology that stands more often is drawn more often. */
  readonly topologies: readonly Topology[];
  readonly stepsMin: number;
  readonly stepsMax: number;
  readonly faultsMax: number;
  /** Largest number of losses of one Cloud TPU that a run survives between two commits. */
  readonly lossesMax: number;
  /** Kind of pod that must be able to inject the faults. */
  readonly ground: Ground;
  /** Kinds of faults, each of which the ground can inject at some position. */
  readonly kinds: readonly DrawableKind[];
}

const [small, medium, large] = [
  ['2x2', '3x2', '2x3'],
  ['4x2', '2x4', '3x3', '4x3'],
  ['4x4', '5x4', '6x6', '8x4', '4x8', '8x8'],
];

/** All phases of steps and memberships. */
export const allPhases: readonly AnyPhase[] = [...stepPhases, ...membershipPhases];

/**
 * Returns a position in a phase. If the phase is one of a step, the position is in step `step`.
 * Otherwise the position is in any membership.
 */
export function positionIn(phase: AnyPhase, step: number): Position {
  return isMembershipPhase(phase) ? { during: phase } : { step, phase };
}

/**
 * Returns a fault of a kind in a phase, without what is drawn rarely, such as `both` for a link.
 * Some kinds of pods cannot inject a fault that has it.
 */
export function sampleOf({ draw }: DrawableKind, phase: AnyPhase): Fault {
  const place = { grid: { columns: 2, rows: 2 }, tpu: 0, at: positionIn(phase, 1) };
  return draw(place, new Draws(() => 1 - Number.EPSILON));
}

/** Returns the kinds of faults that the given kind of pod can inject at some position. */
function kindsOf(ground: Ground): readonly DrawableKind[] {
  return drawableKinds.filter((kind) =>
    allPhases.some((phase) => supported(sampleOf(kind, phase), ground) === true),
  );
}

/** The plans of `pod chaos search`: slices from 2×2 to 8×8, small ones more often. */
export const searchShape: Shape = {
  topologies: [
    ...Array.from({ length: 8 }, () => small).flat(),
    ...Array.from({ length: 3 }, () => medium).flat(),
    ...large,
  ].map(topologyOf),
  ...{ stepsMin: 4, stepsMax: 10, faultsMax: 6, lossesMax: 5 },
  ...{ ground: 'sim', kinds: kindsOf('sim') },
};

/**
 * Returns the shape of the plans that a search tries on a kind of pod. In a pod of threads or
 * processes each Cloud TPU takes a part of this machine, so the slices are small. The plans for
 * these pods have at most three faults.
 */
export function shapeOn(ground: Ground): Shape {
  if (ground === 'sim') return searchShape;
  const topologies = ['2x1', '1x2', '2x2', '2x2', '4x2'].map(topologyOf);
  return { ...searchShape, topologies, faultsMax: 3, ground, kinds: kindsOf(ground) };
}

function topologyOf(text = ''): Topology {
  const [columns = 0, rows = 0] = text.split('x').map(Number);
  return { columns, rows };
}

/**
 * Number of different seeds of the weights. With few seeds, many cases have the same settings. Each
 * case is compared with the same run without faults. This run is trained only once for all cases
 * with the same settings.
 */
const runSeeds = 8;

/** Returns the fault plan of {@link randomCase}. */
export function randomPlan(seed: number, shape: Shape = searchShape): FaultPlan {
  return planOf(randomCase(seed, shape), shape.ground);
}

/**
 * Draws a run and its faults from a seed. The case contains the faults themselves, not the seed.
 * Its plan therefore keeps its meaning if later versions of this function draw other cases from the
 * same seed.
 */
export function randomCase(seed: number, shape: Shape = searchShape): Case {
  const draws = new Draws(mulberry32(seed));
  const run = drawRun(draws, shape);
  if (draws.chance(0.03)) return lostTooOften(run, draws, shape);
  if (draws.chance(0.02)) return withoutRecovery(run, draws);
  return { run, faults: drawSome(run, draws, shape), outcome: 'done' };
}

function drawSome(run: CaseRun, draws: Draws, shape: Shape): readonly Fault[] {
  if (draws.chance(0.08)) return withOthers(loseAll(run, draws), run, draws, shape);
  if (draws.chance(0.05)) return withOthers(wrongTwice(run, draws, shape), run, draws, shape);
  return drawFaults(run, draws, shape);
}

function drawRun(draws: Draws, { topologies, stepsMin, stepsMax }: Shape): CaseRun {
  return {
    topology: draws.pick(topologies),
    model: draws.chance(0.3) ? 'cnn' : 'mlp',
    steps: draws.whole(stepsMin, stepsMax),
    batches: draws.whole(1, 3),
    ...(draws.chance(0.5) && { checkpointEvery: draws.whole(1, 4), keep: draws.whole(1, 3) }),
    recovery: draws.chance(0.15) ? 'slice-restart' : 'replace',
    seed: draws.whole(0, runSeeds - 1),
  };
}

/**
 * Returns a case whose run must fail. In one step the same Cloud TPU is lost `lossesMax` + 1 times,
 * which is once more than a run survives.
 */
function lostTooOften(run: CaseRun, draws: Draws, { lossesMax }: Shape): Case {
  const tpu = draws.whole(0, tpusOf(run) - 1);
  const at = drawStepPosition(draws.pick(workerPhases), run, draws);
  const faults = Array.from({ length: lossesMax + 1 }, (): Fault => {
    return { fault: draws.pick(endingFaults), tpu, at };
  });
  return { run, faults, outcome: 'failed' };
}

/** Returns a case whose run must fail, because a Cloud TPU is lost and the run does not recover. */
function withoutRecovery(run: CaseRun, draws: Draws): Case {
  const tpu = draws.whole(0, tpusOf(run) - 1);
  const at = drawStepPosition(draws.pick(workerPhases), run, draws);
  const faults: readonly Fault[] = [{ fault: draws.pick(endingFaults), tpu, at }];
  return { run: { ...run, recovery: 'none' }, faults, outcome: 'failed' };
}

/**
 * Returns faults that lose all Cloud TPUs at one position: a fault for each row, or for each column
 * if there are fewer columns. After such a loss only checkpoints have weights. The phase `evaluate`
 * is drawn more often than others, because the evaluation must then get its weights anew.
 */
function loseAll(run: CaseRun, draws: Draws): readonly Fault[] {
  const { rows, columns } = run.topology;
  const phase = draws.chance(0.2) ? 'evaluate' : draws.pick(workerPhases);
  const at = drawStepPosition(phase, run, draws);
  return Array.from({ length: Math.min(rows, columns) }, (_, line): Fault => {
    return rows <= columns
      ? { fault: 'lose-row', row: line, at }
      : { fault: 'lose-column', column: line, at };
  });
}

/**
 * Returns two faults that give the same Cloud TPU wrong weights in two steps. After the second step
 * the Cloud TPU is quarantined.
 */
function wrongTwice(run: CaseRun, draws: Draws, { ground }: Shape): readonly Fault[] {
  const tpu = draws.whole(0, tpusOf(run) - 1);
  const first = draws.whole(1, run.steps - 1);
  const flip = (step: number, phase: StepPhase, bit: number): Fault => {
    return { fault: 'flip-bit', tpu, at: { step, phase }, in: 'weights', bit };
  };
  const phases = workerPhases.filter((phase) => supported(flip(1, phase, 0), ground) === true);
  return [first, draws.whole(first + 1, run.steps)].map((step) => {
    const phase = draws.pick(phases);
    return flip(step, phase, draws.whole(0, 31));
  });
}

/**
 * Returns the given faults together with further drawn faults. There are two exceptions. If the
 * given faults are too many for a plan, returns only drawn faults. If a run with all of the faults
 * may rightly fail, returns only the given faults.
 */
function withOthers(
  given: readonly Fault[],
  run: CaseRun,
  draws: Draws,
  shape: Shape,
): readonly Fault[] {
  const faultsMax = shape.faultsMax - given.length;
  if (faultsMax < 0) return drawFaults(run, draws, shape);
  if (faultsMax === 0) return given;
  const faults = [...given, ...drawFaults(run, draws, { ...shape, faultsMax })];
  return mustRecover(faults, run.topology, shape) ? faults : given;
}

/** Number of tries to draw a fault that the plan can take. */
const triesMax = 50;

/**
 * A Cloud TPU and a step. Many faults of one plan are drawn at this Cloud TPU or in this step, so
 * that they often meet.
 */
interface Focus {
  readonly tpu: number;
  readonly step: number;
}

function drawFaults(run: CaseRun, draws: Draws, shape: Shape): readonly Fault[] {
  const focus = { tpu: draws.whole(0, tpusOf(run) - 1), step: draws.whole(1, run.steps) };
  const count = draws.whole(1, shape.faultsMax);
  const faults: Fault[] = [];
  for (let tries = 0; tries < triesMax && faults.length < count; tries++) {
    const again = faults.length > 0 && draws.chance(0.1);
    const fault = again ? draws.pick(faults) : drawOne(shape.kinds, run, focus, draws);
    const isRight = supported(fault, shape.ground) === true && reasonNotDrawn(fault) === undefined;
    const isFair = mustRecover([...faults, fault], run.topology, shape);
    const hasEffect = run.checkpointEvery !== undefined || !needsCheckpoints(fault);
    if (isRight && isFair && hasEffect) faults.push(fault);
  }
  return withLoss(faults, run, draws, shape);
}

/** Phases in which the master writes to its disk. */
const phasesOfMaster = ['commit', 'checkpoint'] as const;

function drawOne(kinds: readonly DrawableKind[], run: CaseRun, focus: Focus, draws: Draws): Fault {
  const tpu = draws.chance(0.4) ? focus.tpu : draws.whole(0, tpusOf(run) - 1);
  const kind = draws.pick(kinds);
  const isOwn = kind.isOfMaster && draws.chance(0.5);
  const phase = draws.pick(isOwn ? phasesOfMaster : allPhases);
  const at = isMembershipPhase(phase)
    ? { during: phase, generation: draws.whole(1, 4) }
    : drawStepPosition(phase, run, draws, draws.chance(0.4) ? focus.step : undefined);
  return kind.draw({ grid: run.topology, tpu, at }, draws);
}

/**
 * Draws a position in a phase of a step. The position is in step `step`. In the phases `evaluate`
 * and `checkpoint`, a batch or a step with a checkpoint is drawn instead.
 */
function drawStepPosition(
  phase: StepPhase,
  run: CaseRun,
  draws: Draws,
  step: number = draws.whole(1, run.steps),
): Position {
  if (phase === 'evaluate') return { step: draws.whole(1, run.batches), phase };
  if (phase === 'checkpoint') return { step: drawCheckpoint(run, draws), phase };
  if (!isCollective(phase)) return { step, phase };
  const bucket = run.model === 'cnn' ? draws.whole(0, 1) : 0;
  return { step, phase, bucket, hop: draws.whole(0, hopsOf(phase, run.topology) - 1) };
}

/**
 * Draws a step after which the run saves a checkpoint. These are each `checkpointEvery`-th step, and
 * the last step. The last step is drawn more often, because a run is done only when it has saved the
 * checkpoint of this step.
 */
function drawCheckpoint({ steps, checkpointEvery: every = steps }: CaseRun, draws: Draws): number {
  if (draws.chance(0.4)) return steps;
  return Math.min(steps, every * draws.whole(1, Math.ceil(steps / every)));
}

/**
 * Adds the loss of a Cloud TPU if the plan needs one. Some faults occur only in a membership that
 * begins after a loss. The plan needs a loss if it has such a fault and none of its other faults
 * begins this membership.
 */
function withLoss(
  faults: readonly Fault[],
  run: CaseRun,
  draws: Draws,
  shape: Shape,
): readonly Fault[] {
  const waiting = faults.find((it) => needsLoss(it) && !faults.some((other) => frees(other, it)));
  if (waiting === undefined) return faults;
  const tpu = injectorOf(waiting) ?? draws.whole(0, tpusOf(run) - 1);
  const at = drawStepPosition(draws.pick(workerPhases), run, draws);
  const loss: Fault = { fault: draws.pick(endingFaults), tpu, at };
  const { faultsMax } = shape;
  const others = faults.filter((it) => it !== waiting).slice(0, faultsMax - 2);
  const more = faultsMax < 2 ? [loss] : [loss, waiting, ...others];
  return mustRecover(more, run.topology, shape) ? more : faults;
}

/** Returns the Cloud TPU that injects a fault in a membership; undefined if several may. */
function injectorOf(fault: Fault): number | undefined {
  if (isMasterFault(fault) || isDiskFault(fault)) return 0;
  return 'tpu' in fault ? fault.tpu : undefined;
}

function needsLoss(fault: Fault): boolean {
  const { at } = fault;
  return phaseOf(fault) === 'restoring' || ('during' in at && (at.generation ?? 1) > 1);
}

/**
 * True if the fault `loss` begins the membership in which the fault `waiting` takes effect. A fault
 * in the phase `restoring` takes effect only if the loss is of the same Cloud TPU.
 */
function frees(loss: Fault, waiting: Fault): boolean {
  if (!endsWorker(loss) || needsLoss(loss)) return false;
  const isOfSame = 'tpu' in waiting && waiting.tpu === loss.tpu;
  return phaseOf(waiting) !== 'restoring' || isOfSame;
}

function tpusOf({ topology: { columns, rows } }: CaseRun): number {
  return columns * rows;
}
