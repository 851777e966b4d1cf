import { phases } from '../isa/executable.ts';
import { assert, at } from '../numerics/assert.ts';
import type { StepReport } from '../pod/messages.ts';
import type { Slowest, StepCommitted, Straggler } from './event.ts';

/** Factor on the others' time from which a Cloud TPU counts as a straggler. */
const factorMin = 1.5;
/** Number of steps in a row after which a straggler is named. */
const stepsMin = 3;

/** Returns the Cloud TPU whose own work took longest. `reports`: one for each Cloud TPU. */
export function slowestOf(reports: readonly StepReport[]): Slowest {
  const own = reports.map(({ tpu, phaseMs }) => ({ tpu, ms: ownMs(phaseMs) }));
  const sorted = [...own].sort((a, b) => b.ms - a.ms);
  const [slowest, ...others] = sorted;
  assert(slowest !== undefined, 'a step has reports');
  const othersMs = others.length === 0 ? 0 : at(others, Math.floor(others.length / 2)).ms;
  return { tpu: slowest.tpu, ownMs: slowest.ms, othersMs };
}

/** Returns the wall time, in ms, of all phases but the all-reduce. */
function ownMs(phaseMs: readonly number[]): number {
  return phases.reduce((sum, phase, i) => (phase === 'all-reduce' ? sum : sum + at(phaseMs, i)), 0);
}

/**
 * Names a straggler: a Cloud TPU that was the slowest for several steps in a row, and took half as
 * long again as the others. A straggler is named once, until another step breaks the row.
 */
export class StragglerWatch {
  #tpu = -1;
  #inARow = 0;

  /** Takes the next committed step. Returns the event if a straggler is to be named. */
  take({ step, slowest }: Pick<StepCommitted, 'step' | 'slowest'>): Straggler | undefined {
    const isSlow =
      slowest !== undefined &&
      slowest.othersMs > 0 &&
      slowest.ownMs >= factorMin * slowest.othersMs;
    this.#inARow = isSlow ? (slowest.tpu === this.#tpu ? this.#inARow + 1 : 1) : 0;
    this.#tpu = isSlow ? slowest.tpu : -1;
    if (!isSlow || this.#inARow !== stepsMin) return undefined;
    return { kind: 'straggler', step, inARow: this.#inARow, ...slowest };
  }
}
