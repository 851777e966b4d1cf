import type { Grid } from '../fabric/torus.ts';
import { damageMsMax } from './draw.ts';
import {
  type Fault,
  type Ground,
  hitBy,
  hitsOneFrame,
  isCollective,
  isFrameFault,
  isMembershipPhase,
  phaseOf,
  targetsOf,
} from './plan.ts';

/**
 * Returns the reason why `pod chaos search` does not draw a fault although a pod can inject it;
 * undefined if the search draws the fault.
 */
export function reasonNotDrawn(fault: Fault): string | undefined {
  if (fault.fault !== 'flip-bit' || fault.in !== 'reduce-buffer') return undefined;
  const phase = phaseOf(fault);
  if (isCollective(phase)) {
    return 'cannot be noticed by design: the wrong sum reaches all replicas, and all stay equal';
  }
  const hasSums = phase !== 'evaluate' && !isMembershipPhase(phase);
  return hasSums ? undefined : 'gradients are summed in training steps only';
}

/** What {@link mustRecover} must know of a pod, and how many losses a run survives. */
export interface FairLimits {
  readonly ground: Ground;
  /** Largest number of losses of one Cloud TPU that a run survives between two commits. */
  readonly lossesMax: number;
}

/**
 * True if a run with these faults must recover from all of them. This is so if the faults keep
 * four limits. Beyond these limits, even a pod without defects may end with an error or with wrong
 * weights.
 *
 * - One Cloud TPU loses at most `lossesMax` workers. All of these losses can come between two
 *   commits: after each loss the step runs again, and can then meet the next fault.
 * - At most one bit flips in a step or in a batch of the evaluation. If a bit flips at another
 *   time, no other bit flips in the whole run. With two flipped bits there may be no majority of
 *   Cloud TPUs with right weights.
 * - In a pod of processes or containers, `slow` makes an instruction at most
 *   {@link slowFactorMax} times as long. A Cloud TPU that is slower is lost again and again,
 *   because one instruction lasts longer than a Cloud TPU may be silent.
 * - At least one worker neither hangs nor pauses while it joins. This worker must take over the
 *   Cloud TPUs of all workers that do.
 */
export function mustRecover(
  faults: readonly Fault[],
  grid: Grid,
  { ground, lossesMax }: FairLimits,
): boolean {
  return (
    losses(faults, grid, ground).every((count) => count <= lossesMax) &&
    areFlipsApart(faults) &&
    new Set(faults.filter(isSilentAtJoining).flatMap((it) => targetsOf(it, grid))).size <
      grid.columns * grid.rows
  );
}

/** Returns for each Cloud TPU how many workers the faults may cost it. */
function losses(faults: readonly Fault[], grid: Grid, ground: Ground): readonly number[] {
  const counts = Array.from({ length: grid.columns * grid.rows }, () => 0);
  for (const fault of faults) {
    for (const tpu of hitBy(fault, grid))
      counts[tpu] = (counts[tpu] ?? 0) + lossesBy(fault, ground);
  }
  return counts;
}

/**
 * Largest number of workers that one Cloud TPU loses if a link damages frames for
 * {@link damageMsMax} ms.
 */
const lossesByDamage = 3;

/**
 * Largest factor of `slow` that a pod of processes or containers must survive. In containers on two
 * processors an instruction may wait 100 ms for its turn, and `slow` makes this wait longer too. A
 * Cloud TPU counts as lost after 1.2 s of silence.
 */
const slowFactorMax = 5;

/** Returns how many workers a fault may cost a Cloud TPU that it hits. */
function lossesBy(fault: Fault, ground: Ground): number {
  if (fault.fault === 'slow') return isTooSlow(fault, ground) ? Number.POSITIVE_INFINITY : 1;
  if (!isFrameFault(fault) || hitsOneFrame(fault)) return 1;
  const isShort = (fault.for?.ms ?? Number.POSITIVE_INFINITY) <= damageMsMax;
  return isShort ? lossesByDamage : Number.POSITIVE_INFINITY;
}

function isTooSlow({ factor }: { readonly factor: number }, ground: Ground): boolean {
  return ['processes', 'containers'].includes(ground) && factor > slowFactorMax;
}

function areFlipsApart(faults: readonly Fault[]): boolean {
  const flips = faults.filter(({ fault }) => fault === 'flip-bit');
  const moments = flips.map(({ at }) => ('step' in at ? momentOf(at) : undefined));
  if (moments.includes(undefined)) return flips.length === 1;
  return new Set(moments).size === moments.length;
}

function momentOf({ step, phase }: { readonly step: number; readonly phase?: string }): string {
  return phase === 'evaluate' ? `evaluate ${step}` : `step ${step}`;
}

function isSilentAtJoining(fault: Fault): boolean {
  return ['hang', 'pause'].includes(fault.fault) && phaseOf(fault) === 'joining';
}
