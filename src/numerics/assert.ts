/**
 * Error for a broken invariant. A broken invariant is a bug of this program and never the user's
 * mistake, so no code catches this error.
 */
export class AssertionError extends Error {
  override readonly name = 'AssertionError';
}

/**
 * Throws an {@link AssertionError} with `message` if `condition` is false. The caller builds the
 * message before the call, so building it costs time even if the condition holds. A hot loop avoids
 * this cost: it tests the condition itself and calls {@link broken} only if the condition is false.
 */
export function assert(condition: boolean, message: string): asserts condition {
  if (!condition) throw new AssertionError(message);
}

/** Throws an {@link AssertionError} with `message`. */
export function broken(message: string): never {
  throw new AssertionError(message);
}

/** Returns `values[index]`. Throws an {@link AssertionError} if `index` is out of range. */
export function at<T>(values: ArrayLike<T>, index: number): T {
  const value = values[index];
  if (value === undefined) broken(`index ${index} of ${values.length}`);
  return value;
}

/**
 * Throws an {@link AssertionError}. Use it as the default of a switch whose cases cover every value
 * of a union type: the type `never` makes TypeScript report a missing case.
 */
export function unreachable(value: never): never {
  throw new AssertionError(`unreachable: ${JSON.stringify(value)}`);
}
