import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { gradient } from '../../src/autodiff/gradient.ts';
import * as b from '../../src/hlo/build.ts';
import { dynamicSlice, dynamicUpdateSlice } from '../../src/hlo/build-indexed.ts';
import { evaluate } from '../../src/hlo/evaluate.ts';
import type { HloInstruction, Parameter } from '../../src/hlo/instruction.ts';
import { parse } from '../../src/hlo/parse.ts';
import { print } from '../../src/hlo/print.ts';
import { computedTypes } from '../../src/numerics/element-type.ts';
import { literal, scalarsOf, valuesOf } from '../../src/numerics/literal.ts';
import { arrayShape, elementCount, shapeText } from '../../src/numerics/shape.ts';
import { difference } from './same.ts';

/** An array, the sizes of a slice of it, and where the slice starts, which may be outside. */
const cases = fc
  .array(fc.tuple(fc.integer({ min: 1, max: 4 }), fc.nat(), fc.integer({ min: -6, max: 6 })), {
    maxLength: 3,
  })
  .map((dimensions) => ({
    dims: dimensions.map(([size]) => size),
    sizes: dimensions.map(([size, n]) => n % (size + 1)),
    starts: dimensions.map(([, , start]) => start),
  }));

type Case = typeof cases extends fc.Arbitrary<infer T> ? T : never;

/** Parameters: the array, the update, and the starts. Values are small integers. */
function programOf({ dims, sizes, starts }: Case): {
  readonly x: Parameter;
  readonly update: Parameter;
  readonly starts: readonly Parameter[];
  readonly run: (root: HloInstruction) => number[];
} {
  const x = b.parameter(0, arrayShape('f32', dims));
  const update = b.parameter(1, arrayShape('f32', sizes));
  const scalars = starts.map((_, d) => b.parameter(2 + d, arrayShape('s32', [])));
  const count = (shape: typeof x.shape): number =>
    elementCount(shape as ReturnType<typeof arrayShape>);
  const parameters = [
    literal(
      'f32',
      dims,
      Array.from({ length: count(x.shape) }, (_, i) => i + 1),
    ),
    literal(
      'f32',
      sizes,
      Array.from({ length: count(update.shape) }, (_, i) => -i - 1),
    ),
    ...starts.map((start) => literal('s32', [], [start])),
  ];
  const run = (root: HloInstruction): number[] => {
    const module = b.module('m', [x, update, ...scalars], root);
    expect(difference(module, parse(print(module)))).toBeUndefined();
    return valuesOf(evaluate(module, { parameters }).values[0]!);
  };
  return { x, update, starts: scalars, run };
}

/** Calls `visit` for each index of an array, the last dimension fastest. */
function forEach(dims: readonly number[], visit: (index: readonly number[]) => void): void {
  const go = (index: readonly number[]): void => {
    if (index.length === dims.length) visit(index);
    else for (let i = 0; i < dims[index.length]!; i++) go([...index, i]);
  };
  go([]);
}

/** Row-major place of an index, by Horner's rule. */
const placeOf = (dims: readonly number[], index: readonly number[]): number =>
  index.reduce((place, i, d) => place * dims[d]! + i, 0);

const clamped = ({ dims, sizes, starts }: Case): number[] =>
  starts.map((start, d) => Math.max(0, Math.min(start, dims[d]! - sizes[d]!)));

describe('a slice whose place is computed', () => {
  test('has the elements from its start on, which is clamped', () => {
    fc.assert(
      fc.property(cases, (it) => {
        const { x, starts, run } = programOf(it);
        const first = clamped(it);
        const expected: number[] = [];
        forEach(it.sizes, (index) => {
          expected.push(
            placeOf(
              it.dims,
              index.map((i, d) => first[d]! + i),
            ) + 1,
          );
        });
        expect(run(dynamicSlice(x, starts, it.sizes))).toEqual(expected);
      }),
    );
  });

  test('is replaced by the update, and all other elements stay', () => {
    fc.assert(
      fc.property(cases, (it) => {
        const { x, update, starts, run } = programOf(it);
        const first = clamped(it);
        const expected: number[] = [];
        forEach(it.dims, (index) => {
          const within = index.map((i, d) => i - first[d]!);
          const isInside = within.every((i, d) => i >= 0 && i < it.sizes[d]!);
          expected.push(isInside ? -placeOf(it.sizes, within) - 1 : placeOf(it.dims, index) + 1);
        });
        expect(run(dynamicUpdateSlice(x, update, starts))).toEqual(expected);
      }),
    );
  });

  test('has its adjoint as derivative: ⟨f(x), y⟩ = ⟨x, f′(y)⟩', () => {
    const all = (it: HloInstruction): readonly number[] =>
      (it.shape as ReturnType<typeof arrayShape>).dims.map((_, d) => d);
    const inner = (p: HloInstruction, q: HloInstruction): HloInstruction =>
      b.reduceSum(b.multiply(p, q), all(p));
    fc.assert(
      fc.property(cases, (it) => {
        const { x, update, starts, run } = programOf(it);
        const replaced = dynamicUpdateSlice(x, update, starts);
        const squares = b.multiply(x, x);
        const slice = inner(dynamicSlice(x, starts, it.sizes), update);
        const [dx] = gradient(slice, [x]);
        expect(run(inner(x, dx!))).toEqual(run(slice));
        const [dxOfUpdate, du] = gradient(inner(replaced, squares), [x, update]);
        // The squares depend on x too: their part of the gradient is 2 · x · replaced.
        const rest = b.multiply(b.add(x, x), replaced);
        const own = inner(x, b.subtract(dxOfUpdate!, rest));
        expect(run(b.add(own, inner(update, du!)))).toEqual(run(inner(replaced, squares)));
      }),
      { numRuns: 40 },
    );
  });

  test.each(computedTypes)('keeps the bits of %s, with starts of 64 bits', (type) => {
    const x = literal(type, [3], [1, 0, 1]);
    const start = b.constant(literal('s64', [], [1]));
    const slice = dynamicSlice(b.constant(x), [start], [2]);
    const { values } = evaluate(b.module('m', [], slice), { parameters: [] });
    expect(scalarsOf(values[0]!)).toEqual(scalarsOf(x).slice(1));
  });

  test('refuses wrong sizes and starts', () => {
    const x = b.parameter(0, arrayShape('f32', [4, 2]));
    const [i, f] = [b.parameter(1, arrayShape('s32', [])), b.parameter(2, arrayShape('f32', []))];
    const refused = (build: () => HloInstruction, message: string): void => {
      expect(build, shapeText(x.shape)).toThrow(message);
    };
    refused(() => dynamicSlice(x, [i], [1, 1]), 'expected 3 operands');
    refused(() => dynamicSlice(x, [i, i], [1]), 'expected 2 dynamic_slice_sizes');
    refused(() => dynamicSlice(x, [i, i], [5, 1]), 'a slice that is not larger than the array');
    refused(() => dynamicSlice(x, [f, f], [1, 1]), 'elements of a');
    refused(() => dynamicUpdateSlice(x, i, [i, i]), 'an update of the type and rank of the array');
    refused(() => dynamicUpdateSlice(x, b.full('f32', [5, 1], 0), [i, i]), 'not larger');
  });
});
