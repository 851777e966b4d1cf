import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import * as b from '../../src/hlo/build.ts';
import type { Alias, HloInstruction, HloModule, Parameter } from '../../src/hlo/instruction.ts';
import { mapInstructions, postOrder, withOperands } from '../../src/hlo/traverse.ts';
import { verify } from '../../src/hlo/verify.ts';
import { PodError } from '../../src/numerics/error.ts';
import { literal } from '../../src/numerics/literal.ts';
import { arrayShape, isArray } from '../../src/numerics/shape.ts';
import { arbitraryModule } from './programs.ts';

const f32 = (...dims: number[]): Parameter => b.parameter(0, arrayShape('f32', dims));
const s32 = (...dims: number[]): Parameter => b.parameter(0, arrayShape('s32', dims));
const scalar = b.scalar('f32', 0);
const window = (...sizes: number[]): ReturnType<typeof b.windowDimension>[] =>
  sizes.map((size) => b.windowDimension({ size }));

describe('an invalid instruction is refused with one line', () => {
  const m = f32(2, 3);
  const plain = { lhsBatch: [], rhsBatch: [], lhsContracting: [1], rhsContracting: [0] };
  const images = {
    inputBatch: 0,
    inputFeature: 2,
    inputSpatial: [1],
    kernelInputFeature: 1,
    kernelOutputFeature: 2,
    kernelSpatial: [0],
    outputBatch: 0,
    outputFeature: 2,
    outputSpatial: [1],
  };
  const cases: [string, () => unknown][] = [
    ['add(f32[2,3], f32[3]): expected operands of one shape', () => b.add(m, f32(3))],
    ['add(f32[2,3], s32[2,3]): expected operands of one shape', () => b.add(m, s32(2, 3))],
    ['exponential(s32[2]): expected elements of a float type, not s32', () => b.exp(s32(2))],
    [
      'and(f32[2], f32[2]): expected elements of a pred or signed or unsigned type',
      () => b.and(f32(2), f32(2)),
    ],
    ['negate(token[]): expected an array as operand 0', () => b.negate(b.afterAll())],
    ['select(f32[2,3], f32[2,3], f32[2,3]): expected a pred first', () => b.select(m, m, m)],
    ['bounds that are scalars', () => b.clamp(f32(3), m, m)],
    ['expected elements that fill elements of pred', () => b.bitcastConvert(m, 'pred')],
    ['expected a type with arithmetic, which f64 is not', () => b.convert(m, 'f64')],
    ['expected sizes kept in f32[2,4] at dimensions {0,1}', () => b.broadcast(m, [2, 4], [0, 1])],
    ['target dimensions distinct and below 2, not {0,0}', () => b.broadcast(m, [2, 3], [0, 0])],
    ['reshape(f32[2,3]): expected the type and number', () => b.reshape(m, [5])],
    ['expected sizes of 0 or more, not f32[-2,-3]', () => b.reshape(m, [-2, -3])],
    ['a permutation distinct and below 2, not {0,2}', () => b.transpose(m, [0, 2])],
    ['0 <= start 1 <= limit 4 <= 3 in dimension 1', () => b.slice(m, [0, 1], [2, 4])],
    ['a stride of 1 or more, not 0', () => b.slice(m, [0, 0], [2, 3], [1, 0])],
    [
      'at least 0 elements in dimension 0, not -1',
      () => b.pad(f32(2), scalar, { low: [-3], high: [0], interior: [0] }),
    ],
    ['a scalar to pad with', () => b.pad(f32(2), f32(1), { low: [0], high: [0], interior: [0] })],
    ['operands that differ in dimension 0 alone', () => b.concatenate([m, f32(2, 4)], 0)],
    ['dot(f32[2,3], f32[2,3]): expected batch and contracting', () => b.dot(m, m, plain)],
    [
      'dot(f32[2,3], s32[3,2]): expected operands of one element type',
      () => b.dot(m, s32(3, 2), plain),
    ],
    [
      'dimensions of the left operand distinct',
      () => b.dot(m, m, { ...plain, lhsBatch: [1], rhsBatch: [1] }),
    ],
    [
      'a window of the kernel',
      () => b.convolution(f32(1, 5, 2), f32(3, 2, 4), { window: window(2), dimensions: images }),
    ],
    [
      'kernel input features 2 x 2 groups = input features 2',
      () =>
        b.convolution(f32(1, 5, 2), f32(3, 2, 4), {
          window: window(3),
          dimensions: images,
          featureGroupCount: 2,
        }),
    ],
    [
      'a batch divisible by the batch group count 2',
      () =>
        b.convolution(f32(1, 5, 2), f32(3, 2, 4), {
          window: window(3),
          dimensions: images,
          batchGroupCount: 2,
        }),
    ],
    ['scalar initial values', () => b.reduce(m, f32(1), [0], b.adder('f32'))],
    [
      'add_s32 to be (f32[], f32[]) -> f32[], not (s32[], s32[]) -> s32[]',
      () => b.reduce(m, scalar, [0], b.adder('s32')),
    ],
    ['a window of 2 dimensions', () => b.reduceWindow(m, scalar, window(2), b.adder('f32'))],
    [
      'window sizes, strides and dilations of 1 or more',
      () => b.reduceWindow(m, scalar, window(2, 0), b.adder('f32')),
    ],
    [
      'a source of shape f32[1,3]',
      () => b.selectAndScatter(m, m, scalar, window(2, 1), b.greaterOrEqual('f32'), b.adder('f32')),
    ],
    ['a state u32[4]', () => b.rngBitGenerator(m, arrayShape('u32', [2]))],
    ['all-reduce(): expected at least one operand', () => b.allReduce([])],
    ['add_f32 to be (s32[], s32[]) -> s32[]', () => b.allReduce([m, s32()])],
    ['a token', () => b.infeed(m, arrayShape('f32', []))],
    ['an array or a tuple of arrays, and a token', () => b.outfeed(b.afterAll(), b.afterAll())],
    ['get-tuple-element((f32[2,3])): expected element 1', () => b.getTupleElement(b.tuple([m]), 1)],
    [
      'expected the operands of (f32[], f32[]) -> f32[]',
      () => b.fusion('loop', [m, m], b.adder('f32')),
    ],
  ];
  test.each(cases)('%s', (message, build) => {
    expect(build).toThrow(PodError);
    expect(build).toThrow(message);
  });
});

describe('verify', () => {
  /** Returns the message of `verify` for a module with this root; `nothing` if it is valid. */
  function problem(root: HloInstruction, aliases: readonly Alias[] = []): string {
    const parameters = postOrder(root).filter((it) => it.opcode === 'parameter');
    return problemOf(b.module('bad', parameters, root, aliases));
  }
  function problemOf(module: HloModule): string {
    try {
      verify(module);
      return 'nothing';
    } catch (error) {
      if (!(error instanceof PodError)) throw error;
      expect(error.code).toBe('bad-program');
      return error.message;
    }
  }

  test('names an instruction whose shape does not follow from its operands', () => {
    const wrong = b.named({ ...b.exp(f32(2)), shape: arrayShape('f32', [3]) }, 'loss/exp');
    expect(problem(wrong)).toBe(
      'exponential(f32[2]) at loss/exp: expected the shape f32[2], not f32[3]',
    );
  });

  test('checks the bodies of reductions', () => {
    const { parameters, root } = b.adder('f32');
    const body = b.computation('bad', parameters, {
      ...root,
      shape: arrayShape('s32', []),
    } as HloInstruction);
    const it = { ...b.reduceSum(f32(2), [0]), body, shape: arrayShape('f32', []) };
    expect(problem(it)).toContain('reduce(f32[2], f32[]): expected bad to be');
    const reduced = b.reduce(
      f32(2),
      scalar,
      [0],
      b.computation('two', parameters, b.allReduce(root)),
    );
    expect(problem(reduced)).toContain('to stand in the entry computation, not in two');
  });

  test('finds a cycle', () => {
    const it = { ...b.add(scalar, scalar), operands: [scalar] as HloInstruction[] };
    it.operands.push(it);
    expect(problem(it)).toContain('expected an instruction that does not depend on itself');
  });

  test('checks numbers and shapes of parameters', () => {
    const [x, y] = [b.parameter(0, arrayShape('f32', [])), b.parameter(0, arrayShape('f32', []))];
    expect(problem(b.add(x, y))).toBe('parameter(): expected number 1 in main, not 0');
    const module = b.module('m', [x], b.add(x, b.parameter(1, x.shape)));
    expect(problemOf(module)).toBe(
      'parameter(): expected number 1 to be one of the 1 parameters of main',
    );
    const tuple = b.parameter(0, { type: 'tuple', elements: [] });
    expect(problem(tuple)).toBe('parameter(): expected an array, not ()');
  });

  test('checks constants against their shapes', () => {
    const value = { shape: arrayShape('f32', [2]), data: new Float32Array(3) };
    expect(problem({ ...b.constant(literal('f32', [2], [0, 0])), value })).toBe(
      'constant(): expected 2 values, not 3',
    );
  });

  test('checks that each token has one user, and that tokens order all effects', () => {
    const token = b.afterAll();
    const feed = (from: HloInstruction): HloInstruction => b.infeed(from, arrayShape('f32', []));
    expect(problem(b.tuple([feed(token), feed(token)]))).toContain(
      'expected a token that nothing else uses',
    );
    const apart = b.tuple([feed(b.afterAll()), feed(b.afterAll())]);
    expect(problem(apart)).toContain('expected a token that comes from the infeed before it');
    const first = feed(token);
    const next = feed(b.getTupleElement(first, 1));
    expect(problem(b.tuple([b.getTupleElement(first, 0), next]))).toBe('nothing');
  });

  test('checks aliases against outputs and parameters', () => {
    const x = f32(2);
    const pair = b.tuple([b.exp(x), b.reduceSum(x, [0])]);
    expect(problem(pair, [{ output: 0, parameter: 0 }])).toBe('nothing');
    expect(problem(pair, [{ output: 1, parameter: 0 }])).toContain('found f32[] and f32[2]');
    expect(problem(pair, [{ output: 2, parameter: 0 }])).toContain('found undefined and f32[2]');
    const twice = [0, 0].map((output) => ({ output, parameter: 0 }));
    expect(problem(pair, twice)).toContain('expected each output at most once, found 0,0');
  });

  test('refuses a random program with one changed shape', () => {
    fc.assert(
      fc.property(arbitraryModule(), fc.nat(), ({ module }, choice) => {
        const order = postOrder(module.entry.root).filter(
          ({ opcode, shape }) =>
            isArray(shape) && !['parameter', 'iota', 'broadcast', 'reshape'].includes(opcode),
        );
        const victim = order[choice % Math.max(1, order.length)];
        if (victim === undefined || !isArray(victim.shape)) return;
        const shape = arrayShape(victim.shape.type, [...victim.shape.dims, 2]);
        const entry = mapInstructions(module.entry, (it, operands) =>
          it === victim
            ? ({ ...it, operands, shape } as HloInstruction)
            : ({ ...it, operands } as HloInstruction),
        );
        expect(() => verify({ ...module, entry })).toThrow(PodError);
      }),
    );
  });
});

describe('mapInstructions', () => {
  test('rebuilds users of changed instructions, infers their shapes, and keeps all others', () => {
    const x = b.parameter(0, arrayShape('f32', [4]));
    const kept = b.exp(x);
    const gone = b.slice(x, [0], [4]);
    const entry = b.computation('main', [x], b.tuple([kept, b.negate(gone), b.abs(gone)]));
    const found = mapInstructions(entry, (it, operands) =>
      it === gone ? b.slice(x, [0], [2]) : withOperands(it, operands),
    );
    expect(found.root.operands[0]).toBe(kept);
    expect(found.root.operands[1]!.operands[0]).toBe(found.root.operands[2]!.operands[0]);
    expect(found.root.operands[1]!.shape).toEqual(arrayShape('f32', [2]));
    expect(found.parameters).toEqual([x]);
  });
});
