import { describe, expect, test } from 'vitest';
import { combineAllReduces } from '../../src/compiler/passes/all-reduce.ts';
import { canonicalize } from '../../src/compiler/passes/canonicalize.ts';
import { cse } from '../../src/compiler/passes/cse.ts';
import { dce } from '../../src/compiler/passes/dce.ts';
import { fuse } from '../../src/compiler/passes/fusion.ts';
import { simplify } from '../../src/compiler/passes/simplify.ts';
import * as b from '../../src/hlo/build.ts';
import { evaluate } from '../../src/hlo/evaluate.ts';
import {
  binaryOpcodes,
  type HloInstruction,
  type HloModule,
  type Parameter,
} from '../../src/hlo/instruction.ts';
import { typesOf } from '../../src/hlo/ops.ts';
import { postOrder } from '../../src/hlo/traverse.ts';
import { verify } from '../../src/hlo/verify.ts';
import { type CoreType, coreTypes } from '../../src/numerics/element-type.ts';
import { PodError } from '../../src/numerics/error.ts';
import { valuesOf } from '../../src/numerics/literal.ts';
import { stream } from '../../src/numerics/random.ts';
import { type ArrayShape, arrayShape } from '../../src/numerics/shape.ts';
import { randomLiteral } from '../hlo/programs.ts';

function input(index: number, ...dims: number[]): Parameter {
  return b.parameter(index, arrayShape('f32', dims), `p${index}`);
}

function moduleOf(parameters: readonly Parameter[], root: HloInstruction): HloModule {
  return b.module('test', parameters, root);
}

function opcodes({ entry }: HloModule): string[] {
  return postOrder(entry.root).map(({ opcode }) => opcode);
}

describe('dce', () => {
  const [x, y, z] = [input(0, 2), input(1, 3), input(2, 4)];
  const sums = b.allReduce([x, y, z]);
  test.each<[string, number[]]>([
    ['the first', [0]],
    ['the last', [2]],
    ['all but the first', [1, 2]],
    ['two elements of three, one of them read twice', [2, 0, 2]],
    ['all', [0, 1, 2]],
  ])('keeps only the elements of an all-reduce that are read: %s', (_, read) => {
    const root = b.tuple(read.map((i) => b.getTupleElement(sums, i)));
    const module = moduleOf([x, y, z], root);
    const after = dce(module);
    verify(after);
    const reduced = postOrder(after.entry.root).find(({ opcode }) => opcode === 'all-reduce');
    expect(reduced?.operands).toEqual([x, y, z].filter((_, i) => read.includes(i)));
    const parameters = [x, y, z].map(({ shape }, i) =>
      randomLiteral(shape as ArrayShape, stream(i, 'dce')),
    );
    expect(evaluate(after, { parameters }).values).toEqual(evaluate(module, { parameters }).values);
  });
});

describe('simplify', () => {
  const x = input(0, 2, 3);
  const left = (root: HloInstruction): string[] => opcodes(simplify(moduleOf([x], root)));
  const whole = (value: number): HloInstruction => b.full('f32', [2, 3], value);
  const kept: readonly (readonly [string, HloInstruction])[] = [
    ['x + 0, for -0 + 0 is +0', b.add(x, whole(0))],
    ['x - -0', b.subtract(x, whole(-0))],
    ['x * 0, for NaN and -0', b.multiply(x, whole(0))],
    ['a sum over dimensions of size 1', b.reduceSum(b.reshape(x, [6, 1]), [1])],
    ['f32 -> bf16 -> f32', b.convert(b.convert(x, 'bf16'), 'f32')],
  ];
  for (const [name, root] of kept) {
    test(`keeps ${name}`, () => expect(left(root).at(-1)).toBe(root.opcode));
  }
  const gone: readonly (readonly [string, HloInstruction])[] = [
    ['x + -0', b.add(x, whole(-0))],
    ['x - 0', b.subtract(x, whole(0))],
    ['1 * x', b.multiply(whole(1), x)],
    ['x / 1', b.divide(x, whole(1))],
    ['-(-x)', b.negate(b.negate(x))],
    ['x transposed twice', b.transpose(b.transpose(x, [1, 0]), [1, 0])],
    ['x reshaped there and back', b.reshape(b.reshape(x, [6]), [2, 3])],
    ['a slice of all elements', b.slice(x, [0, 0], [2, 3])],
    ['x reversed twice', b.reverse(b.reverse(x, [1]), [1])],
    ['a select between x and x', b.select(b.compare('LT', x, x), x, x)],
    ['an element of a tuple', b.getTupleElement(b.tuple([x]), 0)],
  ];
  for (const [name, root] of gone) {
    test(`reduces to its operand: ${name}`, () => expect(left(root)).toEqual(['parameter']));
  }
  test('keeps an unnamed parameter as it is when it replaces a named instruction', () => {
    const bare = b.parameter(0, arrayShape('f32', [2, 3]));
    const root = b.named(b.add(bare, whole(-0)), 'sum');
    expect(simplify(moduleOf([bare], b.tuple([root, bare]))).entry.root.operands).toEqual([
      bare,
      bare,
    ]);
  });
  test('folds constants, and computes on a scalar where all elements are equal', () => {
    expect(left(b.add(whole(1), whole(2)))).toEqual(['constant', 'broadcast']);
  });
});

describe('simplify keeps the bits of operations with special constants', () => {
  const special = [0, -0, 1, -1, Number.NaN, Number.POSITIVE_INFINITY, 2 ** -149, 31, 32];
  for (const opcode of binaryOpcodes) {
    test(opcode, () => {
      for (const type of coreTypes as readonly CoreType[]) {
        if (!typesOf(opcode).includes(type)) continue;
        const x = b.parameter(0, arrayShape(type, [40]));
        const inputs = { parameters: [randomLiteral(x.shape as ArrayShape, stream(1, type))] };
        const forms = special.flatMap((value) => {
          const c = b.full(type, [40], value);
          return [b.binary(opcode, x, c), b.binary(opcode, c, x), b.binary(opcode, x, x)];
        });
        const before = moduleOf([x], b.tuple(forms));
        const after = evaluate(simplify(before), inputs).values.map(valuesOf);
        expect(after).toEqual(evaluate(before, inputs).values.map(valuesOf));
      }
    });
  }
});

let bodies = 0;
test('cse joins instructions with equal bodies and constants, and keeps infeeds separate', () => {
  const x = input(0, 4, 4);
  const twice = [0, 1].map(() => b.reduce(x, b.scalar('f32', 0), [0], bodyOf()));
  expect(opcodes(cse(moduleOf([x], b.tuple(twice)))).filter((it) => it === 'reduce')).toHaveLength(
    1,
  );
  const fed = [0, 1].map(() => b.infeed(b.afterAll(), arrayShape('f32', [2])));
  const data = fed.map((it) => b.getTupleElement(it, 0));
  expect(opcodes(cse(moduleOf([], b.tuple(data)))).filter((it) => it === 'infeed')).toHaveLength(2);

  function bodyOf(): ReturnType<typeof b.computation> {
    const [l, r] = [b.parameter(0, arrayShape('f32', [])), b.parameter(1, arrayShape('f32', []))];
    return b.computation(`sum${++bodies}`, [l, r], b.add(l, r));
  }
});

describe('canonicalize', () => {
  const dimensions = {
    inputBatch: 0,
    inputFeature: 3,
    inputSpatial: [1, 2],
    kernelInputFeature: 2,
    kernelOutputFeature: 3,
    kernelSpatial: [0, 1],
    outputBatch: 0,
    outputFeature: 3,
    outputSpatial: [1, 2],
  };
  const window = [
    b.windowDimension({ size: 3, padLow: 1, padHigh: 1, stride: 2 }),
    b.windowDimension({ size: 3, baseDilation: 2 }),
  ];

  test('removes padding, dilation of the input, and groups', () => {
    const [image, kernel] = [input(0, 2, 6, 6, 4), input(1, 3, 3, 2, 4)];
    const grouped = b.convolution(image, kernel, { window, dimensions, featureGroupCount: 2 });
    const order = postOrder(canonicalize(moduleOf([image, kernel], grouped)).entry.root);
    const convolutions = order.filter((it) => it.opcode === 'convolution');
    expect(convolutions).toHaveLength(2);
    for (const it of convolutions) {
      expect(it.featureGroupCount).toBe(1);
      expect(
        it.window.every((w) => w.padLow === 0 && w.padHigh === 0 && w.baseDilation === 1),
      ).toBe(true);
    }
  });

  test('multiplies bf16 as f32 and rounds once', () => {
    const x = b.parameter(0, arrayShape('bf16', [4, 4]));
    const found = opcodes(canonicalize(moduleOf([x], b.matmul(x, x))));
    expect(found).toEqual(['parameter', 'convert', 'convert', 'dot', 'convert']);
  });
});

describe('all-reduce', () => {
  const parameters = [input(0, 8), input(1, 8), input(2)];
  const [x, y, loss] = parameters as [Parameter, Parameter, Parameter];
  const sums = (module: HloModule): HloInstruction[] =>
    postOrder(module.entry.root).filter(({ opcode }) => opcode === 'all-reduce');

  test('orders gradients by depth, cuts full buckets, and puts scalars into the last one', () => {
    const deep = b.negate(b.exp(x));
    const root = b.tuple([b.allReduce(loss), b.allReduce(deep), b.allReduce(y)]);
    const cut = sums(combineAllReduces(moduleOf(parameters, root), 32));
    expect(cut.map(({ operands }) => operands.map(({ opcode }) => opcode))).toEqual(
      expect.arrayContaining([['parameter'], ['negate', 'parameter']]),
    );
    expect(sums(combineAllReduces(moduleOf(parameters, root), 1 << 20))).toHaveLength(1);
  });

  test('never puts an all-reduce into one bucket with another that it depends on', () => {
    const first = b.allReduce(x);
    const second = b.allReduce(b.add(first, y));
    const combined = sums(
      combineAllReduces(moduleOf(parameters, b.tuple([first, second])), 1 << 20),
    );
    expect(combined.map(({ operands }) => operands.length)).toEqual([1, 1]);
  });

  test('refuses an all-reduce that is not a sum of f32', () => {
    const largest = b.allReduce(x, b.maximizer('f32'));
    expect(() => combineAllReduces(moduleOf(parameters, largest))).toThrow(PodError);
  });
});

describe('fusion', () => {
  const all = (): true => true;
  const loops = (module: HloModule): HloInstruction[] =>
    postOrder(fuse(module, all).entry.root).filter(({ opcode }) => opcode === 'fusion');

  test('makes a chain one loop, and leaves reshapes of arrays in memory outside', () => {
    const x = input(0, 2, 3);
    const root = b.matmul(b.exp(b.negate(b.reshape(x, [3, 2]))), b.reshape(b.abs(x), [2, 3]));
    expect(opcodes(fuse(moduleOf([x], root), all))).toEqual([
      'parameter',
      'reshape',
      'fusion',
      'fusion',
      'reshape',
      'dot',
    ]);
  });

  test('computes a value that is needed twice once, as another output of the loop', () => {
    const [w, g] = [input(0, 4), input(1, 4)];
    const moved = b.add(b.multiply(w, w), g);
    const made = loops(moduleOf([w, g], b.tuple([b.add(w, moved), moved])));
    expect(made.map(({ shape }) => shape.type)).toEqual(['tuple']);
  });

  test('makes no cycle of loops: a value whose other user feeds the loop is not its output', () => {
    const x = input(0, 4, 4);
    const shared = b.exp(x);
    const root = b.add(shared, b.matmul(shared, shared));
    expect(loops(moduleOf([x], root))).toHaveLength(2);
  });

  test('does not compute an expensive value again for each element of its broadcast', () => {
    const x = input(0, 4);
    const spread = b.broadcast(b.exp(x), [8, 4], [1]);
    expect(loops(moduleOf([x], b.add(spread, b.full('f32', [8, 4], 1))))).toHaveLength(2);
  });
});
