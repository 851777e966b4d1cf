import type { Grid } from '../fabric/torus.ts';
import { at } from '../numerics/assert.ts';
import { mulberry32 } from '../numerics/generator.ts';
import {
  type Chance,
  type DrawnKind,
  type Fault,
  type FaultPlan,
  targetsOf,
  workerPhases,
} from './plan.ts';

/** A fault that will be injected, with its origin. */
export interface Scheduled {
  readonly fault: Fault;
  /** Index in `FaultPlan.faults`; null for a fault that was drawn by chance. */
  readonly planned: number | null;
}

/**
 * Returns the faults that the plan lists, then the faults that are drawn by chance. The loss of a
 * row or column becomes a `kill` of each Cloud TPU in it. The same arguments give the same faults.
 */
export function scheduleOf(plan: FaultPlan, grid: Grid, steps: number): readonly Scheduled[] {
  const planned = plan.faults.flatMap((fault, index) =>
    expand(fault, grid).map((it) => ({ fault: it, planned: index })),
  );
  const drawn = plan.chance === undefined ? [] : draw(plan.chance, grid, steps);
  return [...planned, ...drawn.map((fault) => ({ fault, planned: null }))];
}

function expand(fault: Fault, grid: Grid): readonly Fault[] {
  if (fault.fault !== 'lose-row' && fault.fault !== 'lose-column') return [fault];
  return targetsOf(fault, grid).map((tpu) => ({ fault: 'kill', tpu, at: fault.at }));
}

/**
 * Draws the faults of a run. In each step, a fault is drawn with the probability 1 / `mtbfSteps`.
 */
function draw(chance: Chance, { columns, rows }: Grid, steps: number): readonly Fault[] {
  const random = mulberry32(chance.seed);
  const weights = Object.entries(chance.weights) as [DrawnKind, number][];
  const faults: Fault[] = [];
  for (let step = 1; step <= steps; step++) {
    if (random() * chance.mtbfSteps >= 1) continue;
    const kind = pick(weights, random);
    const tpu = Math.floor(random() * columns * rows);
    const phase = at(workerPhases, Math.floor(random() * workerPhases.length));
    faults.push(faultOf(kind, tpu, { step, phase }));
  }
  return faults;
}

function pick<T>(weights: readonly (readonly [T, number])[], random: () => number): T {
  const total = weights.reduce((sum, [, weight]) => sum + weight, 0);
  let left = random() * total;
  for (const [value, weight] of weights) {
    left -= weight;
    if (left < 0) return value;
  }
  return at(weights, weights.length - 1)[0];
}

function faultOf(kind: DrawnKind, tpu: number, position: Fault['at']): Fault {
  switch (kind) {
    case 'pause':
      return { fault: kind, tpu, at: position, for: { ms: 500 } };
    case 'slow':
      return { fault: kind, tpu, at: position, factor: 2, for: { steps: 3 } };
    case 'flip-bit':
      return { fault: kind, tpu, at: position, in: 'weights' };
    default:
      return { fault: kind, tpu, at: position };
  }
}
