import { gradient } from '../../src/autodiff/gradient.ts';
import { add, constant, convert, multiply, reduceSum } from '../../src/hlo/build.ts';
import type { HloInstruction } from '../../src/hlo/instruction.ts';
import { literal } from '../../src/numerics/literal.ts';
import { type ArrayShape, elementCount } from '../../src/numerics/shape.ts';
import { interpret, type Values } from './interpret.ts';

/**
 * Returns `count` numbers between `low` and `high` in a pseudo-random order. No number is close to
 * 0, because `abs` has no derivative there. No two numbers are close to each other, because
 * `maximum` has no derivative where its operands are equal.
 */
export function spreadValues(count: number, seed: number, low = -2, high = 2): number[] {
  const order = Array.from({ length: count }, (_, i) => i);
  let state = (seed * 2654435761 + 1) >>> 0;
  for (let i = count - 1; i > 0; i--) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    const j = state % (i + 1);
    [order[i], order[j]] = [order[j]!, order[i]!];
  }
  return order.map((n) => low + ((n + 0.37) * (high - low)) / count);
}

/**
 * Returns the sum of all elements of y, each multiplied by a weight of its own. Because of the
 * weights, the derivatives of the sum with respect to two elements of y differ. So a test notices
 * if a derivative belongs to the wrong element.
 */
export function weighted(y: HloInstruction, seed = 1): HloInstruction {
  const shape = y.shape as ArrayShape;
  const values = spreadValues(elementCount(shape), seed).map((x) => Math.round(x * 64) / 64);
  const weights = constant(literal('f32', shape.dims, values));
  const product = multiply(shape.type === 'f32' ? y : convert(y, 'f32'), weights);
  return reduceSum(
    product,
    shape.dims.map((_, d) => d),
  );
}

/**
 * Returns a number that depends on the gradient of `loss`: the sum of the weighted derivatives. Its
 * gradient has second derivatives of `loss`.
 */
export function slopeOf(
  loss: HloInstruction,
  wrt: readonly HloInstruction[],
  seed = 1,
): HloInstruction {
  const parts = gradient(loss, wrt).map((it, i) => weighted(it, seed + 17 * i + 5));
  return parts.reduce((sum, part) => add(sum, part));
}

/**
 * Compares each derivative in the gradient of `loss` with a numeric derivative (central
 * difference), both in f64. Returns the largest error. The error is relative to the numeric
 * derivative if the magnitude of that is more than 1; otherwise it is absolute. Returns Infinity if
 * an error is NaN.
 */
export function gradientError(
  loss: HloInstruction,
  wrt: readonly HloInstruction[],
  leaves: ReadonlyMap<HloInstruction, Values>,
  step = 1e-5,
): number {
  const gradients = gradient(loss, wrt);
  let worst = 0;
  wrt.forEach((x, n) => {
    const values = leaves.get(x)!;
    const exact = interpret(gradients[n]!, leaves);
    values.forEach((value, i) => {
      const at = (to: number) => interpret(loss, new Map([...leaves, [x, values.with(i, to)]]))[0]!;
      const numeric = (at(value + step) - at(value - step)) / (2 * step);
      const error = Math.abs(exact[i]! - numeric) / Math.max(1, Math.abs(numeric));
      worst = Number.isNaN(error) ? Infinity : Math.max(worst, error);
    });
  });
  return worst;
}
