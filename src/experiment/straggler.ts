import { phases } from '../isa/executable.ts';
import { assert, at } from '../numerics/assert.ts';
import type { StepReport } from '../pod/messages.ts';
import type { Slowest, StepCommitted, Straggler } from './event.ts';
import type { LinkCauses } from './link-causes.ts';
import { sum } from './statistics.ts';

/**
 * A Cloud TPU is slow in a step if its own work takes at least this many times as long as the
 * median of the other Cloud TPUs.
 */
const factorMin = 1.5;
/** Number of consecutive steps in which a Cloud TPU must be slow to be reported as a straggler. */
export const stragglerStepsMin = 3;

/**
 * Returns the Cloud TPU whose own work (see {@link Slowest}) took longest in a step. `reports` has
 * one report for each Cloud TPU. `causes` says who held up the all-reduces of the step.
 */
export function slowestOf(reports: readonly StepReport[], causes: LinkCauses): Slowest {
  const own = reports.map((report) => ({ tpu: report.tpu, ms: ownMs(report, causes) }));
  const [slowest, ...others] = own.sort((a, b) => b.ms - a.ms);
  assert(slowest !== undefined, 'a step has reports');
  const othersMs = others.length === 0 ? 0 : at(others, Math.floor(others.length / 2)).ms;
  return { tpu: slowest.tpu, ownMs: slowest.ms, othersMs };
}

/**
 * Returns the slowest Cloud TPU of a step and its effect on the others. Returns undefined if there
 * are no others, or if the step has no times of each Cloud TPU.
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
 * Returns the own work of a Cloud TPU in a step, in ms: the wall times of all phases except the
 * all-reduce, and the part of the all-reduce in which it held up the others.
 */
export function ownMs(report: StepReport, causes: LinkCauses): number {
  return sum(ownPhaseMs(report, causes));
}

/** Returns the own work of a Cloud TPU in each phase, in ms, in the order of `phases`. */
export function ownPhaseMs({ tpu, phaseMs }: StepReport, { heldUpMs }: LinkCauses): number[] {
  return phases.map((phase, i) => (phase === 'all-reduce' ? (heldUpMs[tpu] ?? 0) : at(phaseMs, i)));
}

/**
 * Detects stragglers. A Cloud TPU lags in a step if it is the slowest and its own work takes at
 * least {@link factorMin} times the median of the own work of the others. A Cloud TPU becomes a
 * straggler when it has lagged in {@link stragglerStepsMin} consecutive steps. The straggler is
 * reported then, and is one until the first step in which it does not lag. If it becomes a
 * straggler again, it is reported again.
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
