import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { inPlace, supports } from '../../../src/compiler/codegen/supports.ts';
import * as b from '../../../src/hlo/build.ts';
import {
  binaryOpcodes,
  type HloComputation,
  type HloInstruction,
  type Opcode,
  type Parameter,
  unaryOpcodes,
} from '../../../src/hlo/instruction.ts';
import { mapInstructions } from '../../../src/hlo/traverse.ts';
import { type Literal, literal } from '../../../src/numerics/literal.ts';
import { stream } from '../../../src/numerics/random.ts';
import { type ArrayShape, arrayShape, isArray } from '../../../src/numerics/shape.ts';
import { arbitraryModule, type Program, randomLiteral } from '../../hlo/programs.ts';
import { bitsOf, expected, runLoop } from './run.ts';

const loopOpcodes: readonly Opcode[] = [
  ...unaryOpcodes,
  ...binaryOpcodes,
  ...(['iota', 'compare', 'select', 'clamp', 'convert', 'bitcast-convert', 'broadcast'] as const),
  ...(['reshape', 'transpose', 'slice', 'pad', 'concatenate', 'reverse'] as const),
  ...(['reduce', 'reduce-window', 'select-and-scatter', 'reduce-precision'] as const),
];

describe('a generated loop has the bits of evaluate', () => {
  test('for random programs', () => {
    let runs = 0;
    const program = arbitraryModule({ opcodes: loopOpcodes, choicesMax: 48 });
    fc.assert(
      fc.property(program, (it) => {
        const { body, args } = bodyOf(it);
        if (supports(body) !== true) return;
        runs++;
        expectSame(body, args);
      }),
      { numRuns: 300 },
    );
    expect(runs).toBeGreaterThan(150);
  });

  test('for random changes of shape and reductions', () => {
    const opcodes = loopOpcodes.filter(
      (it) => !unaryOpcodes.some((one) => one === it) && !binaryOpcodes.some((one) => one === it),
    );
    const program = arbitraryModule({ opcodes: [...opcodes, 'add', 'multiply'], choicesMax: 64 });
    fc.assert(
      fc.property(program, (it) => {
        const { body, args } = bodyOf(it);
        if (supports(body) === true) expectSame(body, args);
      }),
      { numRuns: 150 },
    );
  });

  const types = ['f32', 'bf16', 's32', 'u32', 'pred'] as const;
  test.each([...unaryOpcodes])('for %s, on all its types, at sizes around the lanes', (opcode) => {
    for (const type of types) {
      for (const size of [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 41]) {
        check([arrayShape(type, [size])], (x) => attempt(() => b.unary(opcode, x!)));
      }
    }
  });
  test.each([...binaryOpcodes])('for %s, on all its types', (opcode) => {
    for (const type of types) {
      for (const size of [3, 9, 203]) {
        const shape = arrayShape(type, [size]);
        check([shape, shape], (x, y) => attempt(() => b.binary(opcode, x!, y!)));
      }
    }
  });
  test.each(['f32', 'bf16'] as const)('for reduce-precision of %s to every format', (type) => {
    for (let exponentBits = 1; exponentBits <= 9; exponentBits++) {
      for (const mantissaBits of [0, 1, 2, 6, 7, 8, 10, 22, 23, 24]) {
        const format = { exponentBits, mantissaBits };
        check([arrayShape(type, [203])], (x) => b.reducePrecision(x!, format));
      }
    }
  });
  test.each(types)('for comparisons and conversions of %s', (type) => {
    const shape = arrayShape(type, [61]);
    for (const direction of ['EQ', 'NE', 'LT', 'LE', 'GT', 'GE'] as const) {
      check([shape, shape], (x, y) => b.compare(direction, x!, y!));
    }
    for (const to of types) check([shape], (x) => b.convert(x!, to));
  });
  test.each([0, -0, 1.5, -2, Infinity, -Infinity, NaN])('for the constant bound %d', (bound) => {
    const values = b.constant(randomLiteral(arrayShape('f32', []), stream(3, 'any')));
    for (const type of ['f32', 'bf16'] as const) {
      const shape = arrayShape(type, [203]);
      const full = b.full(type, [203], bound);
      for (const opcode of ['maximum', 'minimum'] as const) {
        check([shape], (x) => b.binary(opcode, x!, full));
        check([shape], (x) => b.binary(opcode, full, x!));
      }
      check([shape], (x) => b.clamp(b.scalar(type, bound), x!, b.convert(values, type)));
    }
  });
  test('for rounding of halves, and of values next to them', () => {
    const halves = [-3.5, -2.5, -1.5, -0.5, -0, 0, 0.5, 1.5, 2.5, 2 ** 22 + 0.5, 2 ** 23 + 1];
    const values = halves.flatMap((x) => [x, x * (1 - 2 ** -24), x * (1 + 2 ** -23)]);
    const x = b.parameter(0, arrayShape('f32', [values.length]));
    for (const opcode of ['round-nearest-afz', 'round-nearest-even'] as const) {
      const rounding = b.computation('body', [x], b.unary(opcode, x));
      expectSame(rounding, [literal('f32', [values.length], values)]);
    }
  });
  test('for shifts by a constant', () => {
    for (const opcode of ['shift-left', 'shift-right-arithmetic', 'shift-right-logical'] as const) {
      for (const type of ['s32', 'u32'] as const) {
        for (const count of [0, 1, 31, 32, 40]) {
          check([arrayShape(type, [9])], (x) => b.binary(opcode, x!, b.full(type, [9], count)));
        }
      }
    }
  });
  test('for ranks 0 to 4 and sizes around the number of lanes', () => {
    for (const dims of [[], [1], [3], [2, 5], [1, 4], [3, 1, 7], [2, 2, 2, 9], [2, 3, 4, 8]]) {
      const shape = arrayShape('f32', dims);
      check([shape, shape], (x, y) => b.tuple([b.add(x!, y!), b.reduceSum(x!, [...dims.keys()])]));
      const turned = [...dims.keys()].reverse();
      check([shape], (x) => b.transpose(b.exp(x!), turned));
    }
  });
});

describe('a loop of a training step has the bits of evaluate', () => {
  const image = arrayShape('f32', [2, 6, 6, 24]);
  const { dims } = image;
  const pool = [1, 2, 2, 1].map((size) => b.windowDimension({ size, stride: size }));
  const zeros = b.full('f32', dims, 0);
  const row = (x: HloInstruction): HloInstruction => b.broadcast(x, dims, [3]);

  test('bias and ReLU', () => {
    check([image, arrayShape('f32', [24])], (x, bias) => b.maximum(b.add(x!, row(bias!)), zeros));
  });
  test('ReLU backward', () => {
    check([image, image], (x, g) => b.select(b.compare('GT', x!, zeros), g!, zeros));
  });
  test.each([1, 3, 4, 24, 64, 70])('bias gradient of %i channels', (channels) => {
    check([arrayShape('f32', [2, 3, 5, channels])], (g) => b.reduceSum(g!, [0, 1, 2]));
  });
  test('max-pool', () => {
    const init = b.scalar('f32', Number.NEGATIVE_INFINITY);
    check([image], (x) => b.reduceWindow(x!, init, pool, b.maximizer('f32')));
  });
  const backward = (x: HloInstruction, g: HloInstruction): HloInstruction => {
    const bodies = [b.greaterOrEqual('f32'), b.adder('f32')] as const;
    return b.selectAndScatter(x, g, b.scalar('f32', 0), pool, ...bodies);
  };
  test('max-pool backward', () => {
    check([image, arrayShape('f32', [2, 3, 3, 24])], (x, g) => backward(x!, g!));
  });
  test('max-pool backward with ReLU backward', () => {
    check([image, arrayShape('f32', [2, 3, 3, 24])], (x, g) =>
      b.select(b.compare('GT', x!, zeros), backward(x!, g!), zeros),
    );
  });
  test('max-pool backward over windows that overlap and reach into padding', () => {
    const window = [1, 3, 3, 1].map((size) =>
      b.windowDimension({ size, stride: Math.min(size, 2), padLow: size >> 1, padHigh: size >> 1 }),
    );
    check([image, arrayShape('f32', [2, 3, 3, 24])], (x, g) =>
      b.selectAndScatter(
        ...[x!, g!, b.scalar('f32', 0.5), window],
        ...([b.greaterOrEqual('f32'), b.adder('f32')] as const),
      ),
    );
  });
  test.each([[], [9]])('select-and-scatter where two windows select one element', (...lanes) => {
    const window = [
      b.windowDimension({ size: 2, padLow: 1, padHigh: 1 }),
      ...lanes.map(() => b.windowDimension({ size: 1 })),
    ];
    check([arrayShape('f32', [1, ...lanes]), arrayShape('f32', [2, ...lanes])], (x, g) =>
      b.selectAndScatter(
        ...[x!, g!, b.scalar('f32', 0.5), window],
        ...([b.greaterOrEqual('f32'), b.adder('f32')] as const),
      ),
    );
  });
  test('padding for the gradient of a convolution', () => {
    const two = [0, 2, 2, 0];
    check([image], (x) =>
      b.pad(x!, b.scalar('f32', 0), { low: two, high: two, interior: [0, 0, 0, 0] }),
    );
    check([image], (x) =>
      b.pad(x!, b.scalar('f32', 0), { low: two, high: [0, 1, -1, 3], interior: [0, 1, 1, 0] }),
    );
  });
  test('softmax cross-entropy with labels', () => {
    const shape = arrayShape('f32', [5, 10]);
    check([shape, arrayShape('s32', [5])], (logits, labels) => {
      const along = (x: HloInstruction): HloInstruction => b.broadcast(x, [5, 10], [0]);
      const shifted = b.subtract(logits!, along(b.reduceMax(logits!, [1])));
      const sum = b.reduceSum(b.exp(shifted), [1]);
      const hot = b.compare('EQ', b.iota(arrayShape('s32', [5, 10]), 1), along(labels!));
      const oneHot = b.convert(hot, 'f32');
      const logProbabilities = b.subtract(shifted, along(b.log(sum)));
      const loss = b.reduceSum(b.multiply(oneHot, logProbabilities), [0, 1]);
      const gradient = b.subtract(b.divide(b.exp(shifted), along(sum)), oneHot);
      return b.tuple([b.negate(loss), gradient]);
    });
  });
  test('argmax: the largest value and its index', () => {
    const [v, i, w, j] = (['f32', 's32', 'f32', 's32'] as const).map((type, n) =>
      b.parameter(n, arrayShape(type, [])),
    ) as [Parameter, Parameter, Parameter, Parameter];
    const keeps = b.compare('GE', v, w);
    const body = b.computation(
      'argmax',
      [v, i, w, j],
      b.tuple([b.select(keeps, v, w), b.select(keeps, i, j)]),
    );
    check([arrayShape('f32', [7, 10])], (x) =>
      b.reduce(
        [x!, b.iota(arrayShape('s32', [7, 10]), 1)],
        [b.scalar('f32', Number.NEGATIVE_INFINITY), b.scalar('s32', 0)],
        [1],
        body,
      ),
    );
  });
  test('bias and ReLU, followed by flattening', () => {
    const flatDims = [2, 6 * 6 * 24];
    check([image, arrayShape('f32', [24])], (x, bias) => {
      const sum = b.add(x!, row(bias!));
      return b.reshape(b.maximum(sum, zeros), flatDims);
    });
  });
});

describe('inPlace', () => {
  const shape = arrayShape('f32', [37]);
  test('allows new momentum and weights to take the memory of the old ones', () => {
    const body = computationOf([shape, shape, shape], (g, m, w) => {
      const momentum = b.add(b.multiply(m!, b.full('f32', [37], 0.9)), g!);
      const step = b.multiply(momentum, b.full('f32', [37], 0.1));
      return b.tuple([momentum, b.subtract(w!, step)]);
    });
    expect(inPlace(body, 0)).toEqual([0, 1, 2]);
    expect(inPlace(body, 1)).toEqual([0, 1, 2]);
    expectSame(
      body,
      argumentsOf(body),
      new Map([
        [0, 1],
        [1, 2],
      ]),
    );
    expectSame(
      body,
      argumentsOf(body),
      new Map([
        [0, 2],
        [1, 1],
      ]),
    );
  });
  test('allows nothing for loops that move or reduce elements', () => {
    const square = arrayShape('f32', [6, 6]);
    const reversed = computationOf([shape], (x) => b.reverse(x!, [0]));
    const turned = computationOf([square], (x) => b.transpose(x!, [1, 0]));
    const both = computationOf([square], (x) => b.tuple([b.negate(x!), b.reduceSum(x!, [1])]));
    const centred = computationOf([square], (x) =>
      b.subtract(x!, b.broadcast(b.reduceSum(x!, [1]), [6, 6], [0])),
    );
    for (const body of [reversed, turned, both, centred]) expect(inPlace(body, 0)).toEqual([]);
  });
  test('allows only sharing that keeps the bits of the results', () => {
    let shared = 0;
    const program = arbitraryModule({ opcodes: loopOpcodes, choicesMax: 40 });
    fc.assert(
      fc.property(program, fc.nat(), (it, choice) => {
        const { body, args } = bodyOf(it);
        if (supports(body) !== true) return;
        const shares = new Map<number, number>();
        const count = body.root.shape.type === 'tuple' ? body.root.shape.elements.length : 1;
        for (let target = 0; target < count; target++) {
          const free = inPlace(body, target).filter((p) => ![...shares.values()].includes(p));
          const one = free[choice % Math.max(1, free.length)];
          if (one !== undefined) shares.set(target, one);
        }
        shared += shares.size;
        expectSame(body, args, shares);
      }),
      { numRuns: 200 },
    );
    expect(shared).toBeGreaterThan(30);
  });
});

describe('supports', () => {
  test('refuses a body that cannot be a loop, with a reason', () => {
    const matrix = arrayShape('f32', [64, 600]);
    const reasonOf = (shapes: readonly ArrayShape[], make: Make): true | string =>
      supports(computationOf(shapes, make));
    expect(reasonOf([matrix], (x) => b.matmul(x!, b.transpose(x!, [1, 0])))).toContain('dot');
    const table = b.constant(randomLiteral(arrayShape('f32', [4]), stream(1, 'table')));
    expect(reasonOf([arrayShape('f32', [4])], (x) => b.add(x!, table))).toContain('constant');
    expect(
      reasonOf([matrix], (x) => b.subtract(x!, b.broadcast(b.reduceSum(x!, [0]), [64, 600], [1]))),
    ).toContain('again');
    expect(
      reasonOf([arrayShape('f32', [4, 600])], (x) => {
        let sum: HloInstruction = x!;
        for (let i = 0; i < 16; i++) sum = b.add(b.reverse(sum, [i % 2]), b.exp(sum));
        return sum;
      }),
    ).toBe(true);
    expect(
      reasonOf([arrayShape('f32', [100, 100])], (x) => {
        let sum: HloInstruction = x!;
        for (let i = 1; i < 14; i++) {
          const low = [i, 2 * i];
          const padding = { low, high: low.map((n) => -n), interior: [0, 0] };
          sum = b.add(b.pad(sum, b.scalar('f32', 0), padding), b.exp(sum));
        }
        return sum;
      }),
    ).toContain('values');
  });
});

type Make = (...parameters: (HloInstruction | undefined)[]) => HloInstruction;

/**
 * Runs the generated code of a computation on random arguments. Expects the bits that `evaluate`
 * returns. If `make` returns undefined, HLO does not allow the computation, and the check is
 * skipped.
 */
function check(
  shapes: readonly ArrayShape[],
  make: (...parameters: (HloInstruction | undefined)[]) => HloInstruction | undefined,
): void {
  const parameters = shapes.map((shape, i) => b.parameter(i, shape));
  const root = make(...parameters);
  if (root === undefined) return;
  const body = b.computation('body', parameters, root);
  expect(supports(body)).toBe(true);
  expectSame(body, argumentsOf(body));
}

function attempt(make: () => HloInstruction): HloInstruction | undefined {
  try {
    return make();
  } catch {
    return undefined;
  }
}

function computationOf(shapes: readonly ArrayShape[], make: Make): HloComputation {
  const parameters = shapes.map((shape, i) => b.parameter(i, shape));
  return b.computation('body', parameters, make(...parameters));
}

function argumentsOf(body: HloComputation): Literal[] {
  return body.parameters.map(({ shape, index }) =>
    randomLiteral(shape as ArrayShape, stream(7, String(index))),
  );
}

function expectSame(
  body: HloComputation,
  args: readonly Literal[],
  shares?: ReadonlyMap<number, number>,
): void {
  expect(runLoop(body, args, shares).map(bitsOf)).toEqual(expected(body, args).map(bitsOf));
}

/**
 * Turns a program into the body of a fused loop. The body has no constants whose elements differ,
 * so each of these constants becomes a parameter. The body returns arrays only, so each tuple among
 * the results is replaced by its elements.
 */
function bodyOf({ module, inputs }: Program): { body: HloComputation; args: readonly Literal[] } {
  const parameters = [...module.entry.parameters];
  const args = [...inputs.parameters];
  const { root } = mapInstructions(module.entry, (it, operands) => {
    if (it.opcode === 'constant' && new Set(it.value.data as Iterable<unknown>).size > 1) {
      const added = b.parameter(parameters.length, it.shape);
      parameters.push(added);
      args.push(it.value);
      return added;
    }
    return { ...it, operands } as HloInstruction;
  });
  const arrays = (root.opcode === 'tuple' ? root.operands : [root]).flatMap(arraysOf);
  return { body: b.computation('body', parameters, b.tuple(arrays)), args };
}

function arraysOf(it: HloInstruction): HloInstruction[] {
  if (isArray(it.shape)) return [it];
  const count = it.shape.type === 'tuple' ? it.shape.elements.length : 0;
  return Array.from({ length: count }, (_, i) => b.getTupleElement(it, i)).flatMap(arraysOf);
}
