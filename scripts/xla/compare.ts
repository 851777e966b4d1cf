import { type ElementType, elementTypes } from '../../src/numerics/element-type.ts';
import { type Literal, scalarsOf } from '../../src/numerics/literal.ts';
import { sameShape, shapeText } from '../../src/numerics/shape.ts';

/**
 * Relative tolerance of each float type. XLA's value and our value of an element may differ by the
 * tolerance times the magnitude of the largest finite element in our array. For a type of at most 16
 * bits this is one unit in the last place of that largest element.
 */
const tolerances: Readonly<Partial<Record<ElementType, number>>> = {
  ...{ f32: 1e-5, bf16: 2 ** -7, f16: 2 ** -10 },
  ...{ f8e5m2: 2 ** -2, f8e5m2fnuz: 2 ** -2, f8e3m4: 2 ** -4 },
  ...{ f8e4m3: 2 ** -3, f8e4m3fn: 2 ** -3, f8e4m3b11fnuz: 2 ** -3, f8e4m3fnuz: 2 ** -3 },
};

/**
 * Largest difference between XLA's results and ours for one program. All fields are about the
 * element with this difference.
 */
export interface Difference {
  /**
   * Difference of the two values, divided by the largest difference that is accepted (see
   * `tolerances`). Infinity for unequal integers and for different shapes.
   */
  readonly size: number;
  /** Absolute difference of the two values of this element. */
  readonly apart: number;
  /** Text for messages: which element differs, and both values. */
  readonly what: string;
}

/**
 * Returns the largest difference between XLA's results and ours, or undefined if all elements are
 * equal. Two NaNs are equal.
 */
export function differenceOf(
  found: readonly Literal[],
  expected: readonly Literal[],
): Difference | undefined {
  if (found.length !== expected.length) {
    return wrong(`${found.length} results by XLA, ${expected.length} by pod`);
  }
  const all = expected.flatMap((it, i) => differenceOfArray(found[i] as Literal, it, i) ?? []);
  return all.sort((a, b) => b.size - a.size)[0];
}

/** True if the difference is at most the largest accepted difference (see `tolerances`). */
export function isSmall({ size }: Difference): boolean {
  return size <= 1;
}

function differenceOfArray(found: Literal, ours: Literal, i: number): Difference | undefined {
  if (!sameShape(found.shape, ours.shape)) {
    return wrong(
      `result ${i} is ${shapeText(found.shape)} by XLA, ${shapeText(ours.shape)} by pod`,
    );
  }
  const [theirs, mine] = [scalarsOf(found), scalarsOf(ours)];
  const largest = mine.reduce<number>(
    (most, it) => (Number.isFinite(Number(it)) ? Math.max(most, Math.abs(Number(it))) : most),
    2 ** -126,
  );
  const { type } = ours.shape;
  const tolerance = elementTypes[type].kind === 'float' ? (tolerances[type] ?? 0) : 0;
  let worst: Difference | undefined;
  for (const [at, value] of mine.entries()) {
    const other = theirs[at] ?? Number.NaN;
    if (other === value || (Number.isNaN(other) && Number.isNaN(value))) continue;
    const distance = Math.abs(Number(other) - Number(value));
    const apart = distance / largest;
    const size = tolerance > 0 && Number.isFinite(apart) ? apart / tolerance : Infinity;
    if (worst !== undefined && size <= worst.size) continue;
    worst = {
      size,
      apart: distance,
      what: `result ${i}, element ${at} of ${shapeText(ours.shape)}: ${other} by XLA, ${value} by pod`,
    };
  }
  return worst;
}

function wrong(what: string): Difference {
  return { size: Number.POSITIVE_INFINITY, apart: Number.POSITIVE_INFINITY, what };
}
