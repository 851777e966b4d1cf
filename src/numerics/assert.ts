/**
 * Error for a broken invariant. A broken invariant is a bug of this program and never the user's
 * mistake, so no code catches this error.
 */
export class AssertionError extends Error {
  override readonly name = 'AssertionError';
}

/**
 * Throws an {@link AssertionError} with `message` if `condition` is false. The caller builds the
 * message before the call, even if the condition is true. To avoid this cost, a hot loop tests the
 * condition itself and calls {@link broken} if the condition is false.
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
 * Call this function in the default of a switch that has a case for every value of a union type. If
 * a case is missing, `value` does not have the type `never`, and TypeScript reports an error. At
 * run time the function throws an {@link AssertionError}.
 */
export function unreachable(value: never): never {
  throw new AssertionError(`unreachable: ${JSON.stringify(value)}`);
}
