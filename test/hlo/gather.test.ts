import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { gradient } from '../../src/autodiff/gradient.ts';
import * as b from '../../src/hlo/build.ts';
import { gather, scatter } from '../../src/hlo/build-gather.ts';
import { evaluate } from '../../src/hlo/evaluate.ts';
import type { HloInstruction, Placement } from '../../src/hlo/instruction.ts';
import { parse } from '../../src/hlo/parse.ts';
import { print } from '../../src/hlo/print.ts';
import { computedTypes } from '../../src/numerics/element-type.ts';
import { bytesOf, literal, scalarsOf, valuesOf } from '../../src/numerics/literal.ts';
import { arrayShape, elementCount } from '../../src/numerics/shape.ts';
import { type PlacementCase, randomPlacement } from './placements.ts';
import { difference } from './same.ts';

const cases = fc.nat().map(randomPlacement);

/** Parameters of a case: the array, the indices and the updates. All values are small integers. */
function parametersOf(it: PlacementCase): {
  readonly x: ReturnType<typeof b.parameter>;
  readonly indices: ReturnType<typeof b.parameter>;
  readonly updates: ReturnType<typeof b.parameter>;
  readonly run: (root: HloInstruction) => number[];
} {
  const x = b.parameter(0, arrayShape('f32', it.dims));
  const indices = b.parameter(1, arrayShape('s32', it.indicesDims));
  const updates = b.parameter(2, arrayShape('f32', it.resultDims));
  const parameters = [
    literal('f32', it.dims, it.values),
    literal('s32', it.indicesDims, it.indices),
    literal('f32', it.resultDims, it.updates),
  ];
  const run = (root: HloInstruction): number[] => {
    const module = b.module('m', [x, indices, updates], root);
    expect(difference(module, parse(print(module)))).toBeUndefined();
    return valuesOf(evaluate(module, { parameters }).values[0]!);
  };
  return { x, indices, updates, run };
}

/** Calls `visit` for each index of an array, the last dimension fastest. */
function forEach(dims: readonly number[], visit: (index: readonly number[]) => void): void {
  const go = (index: readonly number[]): void => {
    if (index.length === dims.length) visit(index);
    else for (let i = 0; i < dims[index.length]!; i++) go([...index, i]);
  };
  go([]);
}

const placeOf = (dims: readonly number[], index: readonly number[]): number =>
  index.reduce((place, i, d) => place * dims[d]! + i, 0);

/**
 * Visits each element of each window: its place in the result or the updates, its index in the array,
 * and whether its whole window lies inside. With `moved`, a window outside is moved inside first.
 */
function eachElement(
  it: PlacementCase,
  moved: boolean,
  visit: (element: { place: number; index: readonly number[]; isInside: boolean }) => void,
): void {
  const { placement: p, dims, sizes, indicesDims } = it;
  const along = indicesDims.map((_, d) => d).filter((d) => d !== p.indexVectorDim);
  forEach(
    along.map((d) => indicesDims[d]!),
    (batch) => {
      const vector = p.indexMap.map((_, k) => {
        const index = indicesDims.map((_, d) =>
          d === p.indexVectorDim ? k : batch[along.indexOf(d)]!,
        );
        return it.indices[placeOf(indicesDims, index)]!;
      });
      const start = dims.map((size, d) => {
        const paired = p.batchingDims.indexOf(d);
        if (paired >= 0) return batch[along.indexOf(p.indicesBatchingDims[paired]!)]!;
        const value = p.indexMap.includes(d) ? vector[p.indexMap.indexOf(d)]! : 0;
        return moved ? Math.max(0, Math.min(value, size - sizes[d]!)) : value;
      });
      const isInside = start.every((n, d) => n >= 0 && n + sizes[d]! <= dims[d]!);
      forEach(sizes, (window) => {
        const result: number[] = [];
        const inner = window.filter((_, d) => ![...p.insertedDims, ...p.batchingDims].includes(d));
        const [left, rest] = [[...batch], [...inner]];
        for (let d = 0; d < it.resultDims.length; d++) {
          result.push((p.windowDims.includes(d) ? rest : left).shift()!);
        }
        const index = window.map((n, d) => start[d]! + n);
        visit({ place: placeOf(it.resultDims, result), index, isInside });
      });
    },
  );
}

describe('gather and scatter', () => {
  test('a gather has the elements of each window', () => {
    fc.assert(
      fc.property(cases, (it) => {
        const { x, indices, run } = parametersOf(it);
        const expected: number[] = Array.from({ length: it.updates.length });
        eachElement(it, true, ({ place, index }) => {
          expected[place] = it.values[placeOf(it.dims, index)]!;
        });
        expect(run(gather(x, indices, it.placement, it.sizes))).toEqual(expected);
      }),
      { numRuns: 200 },
    );
  });

  test('a scatter combines window after window, and skips windows that lie outside', () => {
    const [p, q] = [0, 1].map((i) => b.parameter(i, arrayShape('f32', [])));
    // The body is not commutative, so the order of the updates shows.
    const body = b.computation('body', [p!, q!], b.add(b.multiply(p!, b.scalar('f32', 2)), q!));
    fc.assert(
      fc.property(cases, (it) => {
        const { x, indices, updates, run } = parametersOf(it);
        const expected = [...it.values];
        eachElement(it, false, ({ place, index, isInside }) => {
          if (!isInside) return;
          const at = placeOf(it.dims, index);
          expected[at] = Math.fround(expected[at]! * 2 + it.updates[place]!);
        });
        expect(run(scatter([x], indices, [updates], { ...it.placement, body }))).toEqual(expected);
      }),
      { numRuns: 200 },
    );
  });

  test('have their adjoints as derivatives: ⟨f(x), y⟩ = ⟨x, f′(y)⟩', () => {
    const inner = (p: HloInstruction, q: HloInstruction): HloInstruction =>
      b.reduceSum(
        b.multiply(p, q),
        (p.shape as ReturnType<typeof arrayShape>).dims.map((_, d) => d),
      );
    fc.assert(
      fc.property(cases, (it) => {
        const { x, indices, updates, run } = parametersOf(it);
        const gathered = inner(gather(x, indices, it.placement, it.sizes), updates);
        const [dx] = gradient(gathered, [x]);
        expect(run(inner(x, dx!))).toEqual(run(gathered));
        const weights = b.constant(
          literal(
            'f32',
            it.dims,
            Array.from({ length: it.values.length }, (_, i) => (i % 7) - 3),
          ),
        );
        const adding = { ...it.placement, body: b.adder('f32') };
        const scattered = inner(scatter([x], indices, [updates], adding), weights);
        const [own, du] = gradient(scattered, [x, updates]);
        expect(run(b.add(inner(x, own!), inner(updates, du!)))).toEqual(run(scattered));
      }),
      { numRuns: 100 },
    );
  });

  test('a scatter takes the windows in order, not the updates', () => {
    const x = b.parameter(0, arrayShape('s32', [3]));
    const indices = b.constant(literal('s32', [2, 1], [0, 1]));
    const updates = b.constant(literal('s32', [2, 2], [1, 2, 3, 4]));
    const [p, q] = [0, 1].map((i) => b.parameter(i, arrayShape('s32', [])));
    const body = b.computation('body', [p!, q!], b.add(b.add(p!, p!), q!));
    const placing = { windowDims: [0], insertedDims: [], indexMap: [0], indexVectorDim: 1 };
    const root = scatter([x], indices, [updates], { ...placing, body });
    const parameters = [literal('s32', [3], [0, 0, 0])];
    const { values } = evaluate(b.module('m', [x], root), { parameters });
    // The first window has the updates 1 and 3, the second one 2 and 4. XLA has the same result.
    expect(valuesOf(values[0]!)).toEqual([1, 3 * 2 + 2, 4]);
  });

  test('a scatter of two arrays combines them together', () => {
    const [x, y] = [0, 1].map((i) => b.parameter(i, arrayShape('s32', [3])));
    const indices = b.constant(literal('s32', [2], [2, 0]));
    const updates = [
      b.constant(literal('s32', [2], [5, 7])),
      b.constant(literal('s32', [2], [1, 2])),
    ];
    const scalars = [0, 1, 2, 3].map((i) => b.parameter(i, arrayShape('s32', [])));
    const swapped = b.tuple([b.add(scalars[1]!, scalars[2]!), b.add(scalars[0]!, scalars[3]!)]);
    const body = b.computation('swap', scalars, swapped);
    const placing = { windowDims: [], insertedDims: [0], indexMap: [0], indexVectorDim: 1 };
    const root = scatter([x!, y!], indices, updates, { ...placing, body });
    const parameters = [literal('s32', [3], [10, 20, 30]), literal('s32', [3], [1, 2, 3])];
    const { values } = evaluate(b.module('m', [x!, y!], root), { parameters });
    expect(values.map(valuesOf)).toEqual([
      [1 + 7, 20, 3 + 5],
      [10 + 2, 2, 30 + 1],
    ]);
  });

  const single = { windowDims: [], insertedDims: [0], indexMap: [0], indexVectorDim: 1 };

  test.each(computedTypes)('move elements of %s, and combine them in their type', (type) => {
    const x = b.constant(literal(type, [3], [0, 0, 1]));
    const places = b.constant(literal('u64', [2], [1n, 2n ** 63n]));
    const update = b.constant(literal(type, [2], [1, 0]));
    const scalars = [0, 1].map((i) => b.parameter(i, arrayShape(type, [])));
    const run = (root: HloInstruction): readonly unknown[] =>
      scalarsOf(evaluate(b.module('m', [], root), { parameters: [] }).values[0]!);
    const scattered = (root: HloInstruction): readonly unknown[] => {
      const body = b.computation('body', scalars, root);
      return run(scatter([x], places, [update], { ...single, body }));
    };
    const as = (...numbers: readonly number[]): readonly unknown[] =>
      scalarsOf(literal(type, [numbers.length], numbers));
    expect(run(gather(x, places, single, [1]))).toEqual(as(0, 1));
    expect(scattered(scalars[1]!)).toEqual(as(0, 1, 1));
    expect(scattered(b.minimum(scalars[0]!, scalars[1]!))).toEqual(as(0, 0, 1));
    expect(scattered(b.maximum(scalars[0]!, scalars[1]!))).toEqual(as(0, 1, 1));
  });

  test('a scatter keeps the bits of each NaN that it does not combine', () => {
    const nan = (payload: number): number => 0x7f800001 + payload;
    const words = (numbers: readonly number[]): HloInstruction =>
      b.bitcastConvert(b.constant(literal('u32', [numbers.length], numbers)), 'f32');
    const [p, q] = [0, 1].map((i) => b.parameter(i, arrayShape('f32', [])));
    const place = b.constant(literal('s32', [1], [1]));
    const bitsAfter = (root: HloInstruction): number[] => {
      const result = scatter([words([nan(0), nan(1), nan(2)])], place, [words([nan(3)])], {
        ...single,
        body: b.computation('body', [p!, q!], root),
      });
      const { values } = evaluate(b.module('m', [], result), { parameters: [] });
      return [...new Uint32Array(bytesOf(values[0]!).slice().buffer)];
    };
    expect(bitsAfter(p!)).toEqual([nan(0), nan(1), nan(2)]);
    expect(bitsAfter(q!)).toEqual([nan(0), nan(3), nan(2)]);
    const added = bitsAfter(b.add(p!, q!));
    expect([added[0], added[2]]).toEqual([nan(0), nan(2)]);
  });

  const scalars = [0, 1, 2, 3].map((i) => b.parameter(i, arrayShape('f32', [])));
  const product = b.computation(
    'product',
    scalars.slice(0, 2),
    b.multiply(scalars[0]!, scalars[1]!),
  );
  const sums = b.tuple([b.add(scalars[0]!, scalars[2]!), b.add(scalars[1]!, scalars[3]!)]);
  test.each([
    ['product is not a sum', 1, product],
    ['it is a tuple of results', 2, b.computation('sums', scalars, sums)],
  ])('a scatter has no derivative if %s', (why, count, body) => {
    const x = b.parameter(0, arrayShape('f32', [3]));
    const [indices, one] = [b.constant(literal('s32', [1], [0])), b.full('f32', [1], 1)];
    const many = <T>(it: T): T[] => Array.from({ length: count }, () => it);
    const result = scatter(many(x), indices, many(one), { ...single, body });
    const first = count === 1 ? result : b.getTupleElement(result, 0);
    const root = b.reduceSum(first, [0]);
    expect(() => gradient(root, [x])).toThrow(`no derivative of scatter: ${why}`);
  });

  const x = b.parameter(0, arrayShape('f32', [4, 3]));
  const indices = b.parameter(1, arrayShape('s32', [5, 1]));
  const rows: Placement = {
    ...{ windowDims: [1], insertedDims: [0], indexMap: [0], indexVectorDim: 1 },
    ...{ batchingDims: [], indicesBatchingDims: [] },
  };
  test.each<[string, Partial<Placement>, readonly number[]]>([
    ['2 slice_sizes', {}, [1]],
    ['slices that are not larger than the array', {}, [1, 4]],
    ['size 1 along a collapsed dimension', {}, [2, 3]],
    ['index_vector_dim from 0 to 2, not 3', { indexVectorDim: 3 }, [1, 3]],
    ['1 dimensions in the map of indices', { indexMap: [0, 1] }, [1, 3]],
    ['a window, collapsed or batching dimension for each', { insertedDims: [] }, [1, 3]],
    ['pairs of equal batching dimensions', { batchingDims: [1] }, [1, 1]],
    ['collapsed dimensions in order', { insertedDims: [1, 0], windowDims: [] }, [1, 1]],
    [
      'batching dimensions in order',
      { insertedDims: [], batchingDims: [1, 0], indexMap: [] },
      [1, 1],
    ],
  ])('is refused: expected %s', (expected, change, sizes) => {
    expect(() => gather(x, indices, { ...rows, ...change }, sizes)).toThrow(expected);
  });

  const f = b.adder('f32');
  test.each<[string, number, readonly number[], Partial<Placement> & { body?: typeof f }]>([
    ['arrays, indices, and as many updates as arrays', 0, [], {}],
    ['updates of dimensions 5,3', 1, [4, 3], {}],
    ['windows that are not larger than the array', 1, [5, 4], {}],
    ['arrays of one size, and their updates', 2, [5, 3], {}],
    ['window dimensions in order', 1, [3, 5], { windowDims: [1, 0], insertedDims: [] }],
    ['add_s32 to be (f32[], f32[]) -> f32[]', 1, [5, 3], { body: b.adder('s32') }],
  ])('a scatter is refused: expected %s', (expected, count, dims, change) => {
    const updates = [b.full('f32', dims, 0), b.full('s32', dims, 0)].slice(0, count);
    const arrays = updates.map(() => x);
    const build = (): HloInstruction =>
      scatter(arrays, indices, updates, { ...rows, body: f, ...change });
    expect(build).toThrow(expected);
  });

  test('the text of XLA is read, and hints about the indices are ignored', () => {
    const root = gather(x, indices, rows, [1, 3]);
    const text = print(b.module('m', [x, indices], root));
    const told = text.replace('slice_sizes={1,3}', 'slice_sizes={1,3}, indices_are_sorted=true');
    expect(told).not.toBe(text);
    expect(print(parse(told))).toBe(text);
    expect(elementCount(root.shape)).toBe(15);
  });
});
