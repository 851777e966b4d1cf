/** What a committed step has computed. */
export interface StepValues {
  /** Number of the step, from 1. */
  readonly step: number;
  /** Digest of the weights after the step. */
  readonly digest: string;
  readonly loss: number;
}

/**
 * A step that was committed out of order. `after` is the number of the step that was committed
 * before it, or 0 if it was the first.
 */
export interface OutOfOrder {
  readonly step: number;
  readonly after: number;
}

/**
 * Returns the first commit that is out of order; undefined if the steps 1, 2, 3, … were committed
 * in this order, each once.
 */
export function outOfOrder(commits: readonly StepValues[]): OutOfOrder | undefined {
  const index = commits.findIndex(({ step }, i) => step !== i + 1);
  const odd = commits[index];
  return odd && { step: odd.step, after: commits[index - 1]?.step ?? 0 };
}

/** A value of a committed step that differs from that of the same step without faults. */
export interface Difference {
  readonly step: number;
  readonly found: string | number;
  /** Value of the step in the run without faults; undefined if that run has no such step. */
  readonly expected: string | number | undefined;
}

/**
 * Returns the first commit whose digest or loss differs from that of the same step in the run
 * without faults; undefined if there is none.
 */
export function differenceIn(
  commits: readonly StepValues[],
  reference: readonly StepValues[],
  field: 'digest' | 'loss',
): Difference | undefined {
  const expected = new Map(reference.map((it) => [it.step, it[field]]));
  const other = commits.find((it) => !Object.is(it[field], expected.get(it.step)));
  return other && { step: other.step, found: other[field], expected: expected.get(other.step) };
}
