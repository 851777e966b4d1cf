import { phases } from '../isa/executable.ts';
import { assert, at } from '../numerics/assert.ts';
import type { StepReport } from '../pod/messages.ts';
import type { Slowest, StepCommitted, Straggler } from './event.ts';
import type { LinkCauses } from './link-causes.ts';
import { sum } from './statistics.ts';

/**
 * A Cloud TPU is slow in a step if its own work takes at least this many times as long as the
 * median of the own work of the other Cloud TPUs.
 */
const factorMin = 1.5;
/** Number of consecutive steps in which a Cloud TPU must be slow to be reported as a straggler. */
export const stragglerStepsMin = 3;

/**
 * Returns the Cloud TPU whose own work took longest in a step. Own work is all phases except the
 * all-reduce, and the time for which the Cloud TPU held up the others in the all-reduce. `reports`
 * has one report for each Cloud TPU. `causes` says for how long each Cloud TPU held up the others.
 */
export function slowestOf(reports: readonly StepReport[], causes: LinkCauses): Slowest {
  const own = reports.map((report) => ({ tpu: report.tpu, ms: ownMs(report, causes) }));
  const [slowest, ...others] = own.sort((a, b) => b.ms - a.ms);
  assert(slowest !== undefined, 'a step has reports');
  const othersMs = others.length === 0 ? 0 : at(others, Math.floor(others.length / 2)).ms;
  return { tpu: slowest.tpu, ownMs: slowest.ms, othersMs };
}

/**
 * Returns the slowest Cloud TPU of a step (`slowest`) and the effect that it had on the others
 * (`timing`). Returns undefined if there are no others, or if the step has no `slowest` or no
 * `timing`.
 */
export function slowestAmongOthers<S extends Pick<Slowest, 'othersMs'>, T>({
  slowest,
  timing,
}: {
  readonly slowest?: S | undefined;
  readonly timing?: T | undefined;
}): { readonly slowest: S; readonly timing: T } | undefined {
  if (slowest === undefined || timing === undefined || slowest.othersMs === 0) return undefined;
  return { slowest, timing };
}

/**
 * Returns the own work of a Cloud TPU in a step, in ms. This is the sum of two times: the wall time
 * of all phases except the all-reduce, and the time for which this Cloud TPU held up the others in
 * the all-reduce.
 */
export function ownMs(report: StepReport, causes: LinkCauses): number {
  return sum(ownPhaseMs(report, causes));
}

/** Returns the own work of a Cloud TPU in each phase, in ms, in the order of `phases`. */
export function ownPhaseMs({ tpu, phaseMs }: StepReport, { heldUpMs }: LinkCauses): number[] {
  return phases.map((phase, i) => (phase === 'all-reduce' ? (heldUpMs[tpu] ?? 0) : at(phaseMs, i)));
}

/**
 * Detects stragglers. In each step, only the Cloud TPU whose own work took longest can be slow. It
 * is slow if its own work took at least {@link factorMin} times the median of the own work of the
 * others. A Cloud TPU that is slow in {@link stragglerStepsMin} consecutive steps is a straggler
 * and is reported once. After a step in which it is not slow, the count begins anew, and it can be
 * reported again.
 */
export class StragglerWatch {
  #tpu = -1;
  #inARow = 0;

  /**
   * Receives each committed step in order. Returns the event `straggler` if this step makes a Cloud
   * TPU a straggler; undefined otherwise.
   */
  take({
    step,
    slowest,
    timing,
  }: Pick<StepCommitted, 'step' | 'slowest' | 'timing'>): Straggler | undefined {
    const isSlow =
      slowest !== undefined &&
      slowest.othersMs > 0 &&
      slowest.ownMs >= factorMin * slowest.othersMs;
    this.#inARow = isSlow ? (slowest.tpu === this.#tpu ? this.#inARow + 1 : 1) : 0;
    this.#tpu = isSlow ? slowest.tpu : -1;
    if (!isSlow || this.#inARow !== stragglerStepsMin) return undefined;
    const cause = timing && { slowestPhase: timing.slowestPhase, causedMs: timing.causedMs };
    return { kind: 'straggler', step, inARow: this.#inARow, ...slowest, ...cause };
  }
}
