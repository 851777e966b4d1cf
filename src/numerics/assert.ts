/** A broken invariant: our mistake, never the user's. Nothing catches it. */
export class AssertionError extends Error {
  override readonly name = 'AssertionError';
}

/**
 * Throws an {@link AssertionError} saying what, and which numbers, unless `condition` holds. The
 * message is made each time: where much is done, ask first and then call {@link broken}.
 */
export function assert(condition: boolean, message: string): asserts condition {
  if (!condition) throw new AssertionError(message);
}

/** Throws an {@link AssertionError}. */
export function broken(message: string): never {
  throw new AssertionError(message);
}

/** The element of `values` at `index`, which must be there. */
export function at<T>(values: ArrayLike<T>, index: number): T {
  const value = values[index];
  if (value === undefined) broken(`index ${index} of ${values.length}`);
  return value;
}

/** The value of a case that the types exclude. */
export function unreachable(value: never): never {
  throw new AssertionError(`unreachable: ${JSON.stringify(value)}`);
}
