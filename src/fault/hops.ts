import type { Topology } from '../fabric/torus.ts';
import type { StepPhase } from './plan.ts';

/**
 * Returns the largest number of hops that a lane makes in a phase of a collective. The first axis
 * of a lane is X or Y, the second axis is the other one. In `reduce-scatter` and in `all-gather`
 * the lane goes once round a ring of its first axis. In `all-reduce` it goes twice round a ring of
 * its second axis. Once round a ring of n chips is n hops. A ring has two chips for each column or
 * row of the slice.
 */
export function hopsOf(phase: StepPhase, { columns, rows }: Topology): number {
  const longest = 2 * Math.max(columns, rows);
  return phase === 'all-reduce' ? 2 * longest : longest;
}
