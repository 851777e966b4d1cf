import { formatTopology, podTorus, type Topology } from '../fabric/torus.ts';
import { PodError } from '../numerics/error.ts';
import { hopsOf } from './hops.ts';
import {
  endsOf,
  type Fault,
  type FaultPlan,
  isCollective,
  isLinkFault,
  needsCheckpoints,
  type Position,
  type StepPosition,
} from './plan.ts';

/** Facts about a run that are needed to check a fault plan for this run. */
export interface RunFacts {
  readonly topology: Topology;
  readonly steps: number;
  /** Number of batches of the evaluation; 0 if the run does not evaluate. */
  readonly evaluationSteps: number;
  /**
   * Number of steps from one checkpoint to the next; undefined if the run saves none. A checkpoint
   * is saved after the last step too.
   */
  readonly checkpointEvery: number | undefined;
  /** Number of buckets of gradients; undefined if the training program was not compiled. */
  readonly buckets?: number;
  /** Cores of a Cloud TPU. */
  readonly cores: number;
}

/** A mistake in a plan: the path of the value, and what is wrong with it. */
export interface Mistake {
  readonly path: readonly (string | number)[];
  readonly message: string;
}

/**
 * Returns the mistakes of a plan that can be found only if its run is known: targets that do not
 * exist, positions that the run never reaches, and combinations that exclude each other.
 */
export function mistakesIn(plan: FaultPlan, facts: RunFacts): readonly Mistake[] {
  const ofFaults = plan.faults.flatMap((fault, index) =>
    [
      ...targetMistakes(fault, facts),
      ...positionMistakes(fault.at, facts),
      ...hopMistakes(fault.at, facts),
      ...checkpointMistakes(fault, facts),
    ].map((it) => ({ ...it, path: ['faults', index, ...it.path] })),
  );
  return [...ofFaults, ...contradictions(plan)];
}

function targetMistakes(fault: Fault, facts: RunFacts): readonly Mistake[] {
  const { topology, cores } = facts;
  const tpus = topology.columns * topology.rows;
  const wrongTpu = (path: readonly (string | number)[], tpu: number): readonly Mistake[] =>
    tpu < tpus
      ? []
      : [{ path, message: `expected a Cloud TPU from 0 to ${tpus - 1}, found ${tpu}` }];
  if (isLinkFault(fault)) return linkMistakes(fault.link, topology, wrongTpu);
  switch (fault.fault) {
    case 'lose-row':
      return outside('row', fault.row, topology.rows);
    case 'lose-column':
      return outside('column', fault.column, topology.columns);
    case 'partition':
      return [
        ...fault.groups.flatMap((group, i) =>
          group.flatMap((tpu, j) => wrongTpu(['groups', i, j], tpu)),
        ),
        ...repeated(fault.groups.flat()),
      ];
    case 'stuck-cell':
      return [...wrongTpu(['tpu'], fault.tpu), ...outside('core', fault.core, cores)];
    default:
      return 'tpu' in fault ? wrongTpu(['tpu'], fault.tpu) : [];
  }
}

function outside(name: string, value: number, count: number): readonly Mistake[] {
  if (value < count) return [];
  return [{ path: [name], message: `expected a ${name} from 0 to ${count - 1}, found ${value}` }];
}

function repeated(tpus: readonly number[]): readonly Mistake[] {
  const twice = tpus.find((tpu, i) => tpus.indexOf(tpu) !== i);
  if (twice === undefined) return [];
  return [
    {
      path: ['groups'],
      message: `expected every Cloud TPU in one group at most, found ${twice} twice`,
    },
  ];
}

function linkMistakes(
  link: string | readonly [number, number],
  topology: Topology,
  wrongTpu: (path: readonly (string | number)[], tpu: number) => readonly Mistake[],
): readonly Mistake[] {
  if (typeof link === 'string') {
    const { width, height } = podTorus(topology);
    const [x = 0, y = 0] = [...link.matchAll(/\d+/g)].map(([digits]) => Number(digits));
    if (x >= width || y >= height) {
      const chips = `${width}×${height} chips`;
      return [{ path: ['link'], message: `expected a link between the ${chips}, found ${link}` }];
    }
    const [from, to] = endsOf({ link }, topology);
    if (from !== to) return [];
    const message = `expected a link between two Cloud TPUs, found ${link}, which is inside of ${from}`;
    return [{ path: ['link'], message }];
  }
  const [from, to] = link;
  const wrong = [...wrongTpu(['link', 0], from), ...wrongTpu(['link', 1], to)];
  if (wrong.length > 0 || areNeighbours(from, to, topology)) return wrong;
  const message = `expected two neighbours of the torus, found Cloud TPUs ${from} and ${to}`;
  return [{ path: ['link'], message }];
}

function areNeighbours(a: number, b: number, { columns, rows }: Topology): boolean {
  const distance = (from: number, to: number, length: number): number =>
    Math.min((from - to + length) % length, (to - from + length) % length);
  const [ax, ay, bx, by] = [
    a % columns,
    Math.floor(a / columns),
    b % columns,
    Math.floor(b / columns),
  ];
  return distance(ax, bx, columns) + distance(ay, by, rows) === 1;
}

function positionMistakes(at: Position, facts: RunFacts): readonly Mistake[] {
  if (!('step' in at)) return [];
  const { steps, evaluationSteps } = facts;
  const { phase }: StepPosition = at;
  const last = phase === 'evaluate' ? evaluationSteps : steps;
  const what = phase === 'evaluate' ? 'batch of the evaluation' : 'step';
  if (at.step > last) {
    const range = last === 0 ? 'the run has none' : `the run has ${last}`;
    return [
      {
        path: ['at', 'step'],
        message: `expected a ${what} of the run, found ${at.step}: ${range}`,
      },
    ];
  }
  return [];
}

/** Mistakes of a position at a hop of a collective: the run has no such bucket or no such hop. */
function hopMistakes(at: Position, { topology, buckets }: RunFacts): readonly Mistake[] {
  if (!('step' in at) || at.phase === undefined || !isCollective(at.phase)) return [];
  const { bucket = 0, hop = 0, phase } = at;
  const wrong = (name: string, found: number, count: number, of: string): readonly Mistake[] => {
    if (found < count) return [];
    const range = count === 1 ? `${name} 0, the only one` : `a ${name} from 0 to ${count - 1}`;
    return [{ path: ['at', name], message: `expected ${range} ${of}, found ${found}` }];
  };
  const slice = `of ${phase} on ${formatTopology(topology)} Cloud TPUs`;
  return [
    ...wrong('bucket', bucket, buckets ?? Number.POSITIVE_INFINITY, 'of this model'),
    ...wrong('hop', hop, hopsOf(phase, topology), slice),
  ];
}

function checkpointMistakes(fault: Fault, facts: RunFacts): readonly Mistake[] {
  const { at } = fault;
  const { steps, checkpointEvery: every } = facts;
  const isByPhase = 'step' in at && at.phase === 'checkpoint';
  if (every === undefined) {
    if (!needsCheckpoints(fault)) return [];
    const message = 'expected a run with checkpoints (run: { checkpoint: DIR, every: N })';
    return [{ path: isByPhase ? ['at', 'phase'] : ['fault'], message }];
  }
  if (!isByPhase || at.step > steps || savesCheckpoint(at.step, steps, every)) return [];
  const saved = `the run saves one every ${every} steps and after step ${steps}, its last`;
  const message = `expected a step with a checkpoint, found ${at.step}: ${saved}`;
  return [{ path: ['at', 'step'], message }];
}

/**
 * True if a run saves a checkpoint after a step. The run has `steps` steps and saves a checkpoint
 * after each step whose number is a multiple of `every`, and after the last step.
 */
export function savesCheckpoint(step: number, steps: number, every: number): boolean {
  return step % every === 0 || step === steps;
}

/** Expectations that exclude each other or the run. */
function contradictions({ expect, run }: FaultPlan): readonly Mistake[] {
  const mistakes: Mistake[] = [];
  if (expect.outcome === 'failed') {
    for (const name of ['weights', 'goodput'] as const) {
      if (expect[name] === undefined) continue;
      mistakes.push({
        path: ['expect', name],
        message: `expected no ${name} with outcome: failed, because a failed run has none to compare`,
      });
    }
  }
  const recovers = run['recovery'] !== 'none';
  if (!recovers && (expect.sometimes?.length ?? 0) > 0) {
    const message = 'expected no recovery paths with run.recovery: none';
    mistakes.push({ path: ['expect', 'sometimes'], message });
  }
  return mistakes;
}

/**
 * Throws PodError `bad-plan` for the first mistake. `placeOf` gives the place and the name of the
 * value at a path, such as `plan.yaml:7:10: faults.0.tpu`.
 */
export function refuseMistakes(
  mistakes: readonly Mistake[],
  placeOf: (path: Mistake['path']) => string,
): void {
  const [first] = mistakes;
  if (first === undefined) return;
  const more = mistakes.length > 1 ? ` (and ${mistakes.length - 1} more)` : '';
  const { path, message } = first;
  throw new PodError('bad-plan', `${placeOf(path)}: ${message}${more}`);
}
