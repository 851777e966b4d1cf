import { describe, expect, test } from 'vitest';
import { generate } from '../../src/compiler/codegen/generate.ts';
import { inPlace, supports } from '../../src/compiler/codegen/supports.ts';
import { lower } from '../../src/compiler/lower.ts';
import { lowerings } from '../../src/compiler/lowering/table.ts';
import { flopsOf, work } from '../../src/compiler/work.ts';
import * as b from '../../src/hlo/build.ts';
import {
  binaryOpcodes,
  type HloComputation,
  type HloInstruction,
  type Opcode,
  unaryOpcodes,
} from '../../src/hlo/instruction.ts';
import type { Family } from '../../src/hlo/ops/definition.ts';
import { familyOf, opcodes, typesOf } from '../../src/hlo/ops.ts';
import { at } from '../../src/numerics/assert.ts';
import { coreTypes, type ElementType } from '../../src/numerics/element-type.ts';
import { arrayShape } from '../../src/numerics/shape.ts';

const elementwise = [...unaryOpcodes, ...binaryOpcodes];
const x = b.parameter(0, arrayShape('f32', [4]));

test('each opcode has code of a loop, or becomes steps, names or plain code outside', () => {
  expect(Object.keys(lowerings).sort()).toEqual([...opcodes].sort());
  for (const { loop, unit, name, plain } of Object.values(lowerings)) {
    const outside = [unit, name, plain].filter((it) => it !== undefined);
    expect(outside.length).toBeLessThanOrEqual(1);
    expect(outside.length + (loop === undefined ? 0 : 1)).toBeGreaterThan(0);
  }
});

describe('an element-wise opcode has code for the types that HLO allows, and for no other', () => {
  test.each(elementwise)('%s', (opcode) => {
    for (const type of coreTypes) {
      const write = (): Uint8Array => generate([{ name: 'loop', body: bodyOf(opcode, type) }]);
      if (typesOf(opcode).includes(type)) expect(write).not.toThrow();
      else expect(write).toThrow(`${opcode} of ${type}: there is code only for `);
    }
  });
});

test('an opcode without code of a loop is refused inside a loop, by its name', () => {
  const outside = opcodes.filter((opcode) => lowerings[opcode].loop === undefined);
  expect(outside).toContain('dot');
  for (const opcode of outside) {
    const root = { ...b.negate(x), opcode } as unknown as HloInstruction;
    expect(supports(b.computation('body', [x], root))).toBe(`the opcode ${opcode}`);
  }
});

describe('the lowering of an opcode refuses, inside a loop,', () => {
  const plane = b.parameter(0, arrayShape('f32', [12, 12]));
  const zero = b.scalar('f32', 0);
  const refusal = (root: HloInstruction): true | string =>
    supports(b.computation('loop', [plane], root));

  test.each([
    [
      'a reduction',
      (p: HloInstruction) => b.reduce(p, zero, [], b.adder('f32')),
      'reduce in inner',
    ],
    ['an array', (p: HloInstruction) => first(b.broadcast(p, [3], [])), 'broadcast in inner'],
  ])('%s in the body of a reduction', (_, make, reason) => {
    const inner = onScalars('inner', (p, q) => make(b.add(p, q)));
    expect(refusal(b.reduce(plane, zero, [0], inner))).toBe(reason);
    const window = [2, 2].map((size) => b.windowDimension({ size, stride: size }));
    expect(refusal(b.reduceWindow(plane, zero, window, inner))).toBe(reason);
  });
  test('a select-and-scatter of a large window', () => {
    const scatter = (size: number): HloInstruction => {
      const window = [size, 12].map((n) => b.windowDimension({ size: n, stride: n }));
      const source = b.full('f32', [12 / size, 1], 1);
      const select = onScalars('select', (p, q) => b.compare('GE', p, q));
      return b.selectAndScatter(plane, source, zero, window, select, b.adder('f32'));
    };
    expect(refusal(scatter(6))).toBe(true);
    expect(refusal(scatter(12))).toBe('a window of 144 elements');
  });
  test('a tuple that is not the root', () => {
    expect(refusal(b.tuple([plane, plane]))).toBe(true);
    expect(refusal(b.tuple([plane, b.tuple([plane])]))).toBe('a nested tuple');
    expect(refusal(b.getTupleElement(b.tuple([plane, plane]), 1))).toBe('a nested tuple');
  });
});

test('an instruction that a loop can compute must be in a loop', () => {
  const module = b.module('m', [x], b.negate(x));
  const scheduled = [x, module.entry.root].map((it) => ({ action: 'run' as const, it }));
  const stray = 'negate stands outside of the loop that can compute it';
  expect(() => lower(module, scheduled, { supports, inPlace })).toThrow(stray);
});

describe('the work of an instruction on the vector unit', () => {
  const matrix = b.parameter(0, arrayShape('f32', [3, 8]));
  const sum = b.reduceSum(matrix, [1]);

  test('is one operation for each element of an arithmetic result', () => {
    expect(flopsOf(b.exp(matrix))).toBe(24);
    expect(flopsOf(b.compare('LT', matrix, matrix))).toBe(24);
  });
  test('is one operation for each element of the input of a reduction', () => {
    expect(flopsOf(sum)).toBe(24);
  });
  test('is nothing for what moves elements or runs on another unit', () => {
    expect(flopsOf(b.transpose(matrix, [1, 0]))).toBe(0);
    expect(flopsOf(b.infeed(b.afterAll(), arrayShape('f32', [8])))).toBe(0);
  });
  test('is the sum over the body for a fused loop', () => {
    const body = b.computation('body', [matrix], b.negate(sum));
    expect(flopsOf(b.fusion('reduce', [matrix], body))).toBe(24 + 3);
  });
  test('is counted for opcodes that compute element by element, reduce, solve, sort, scatter or call', () => {
    const counted = opcodes.filter((opcode) => 'flops' in work[opcode]);
    const reducing: readonly Family[] = ['reduction', 'normalization', 'linear-algebra'];
    const converts: readonly Opcode[] = ['convert', 'bitcast-convert'];
    const expected = opcodes.filter((opcode) => {
      const family = familyOf({ opcode });
      return family === 'elementwise' ? !converts.includes(opcode) : reducing.includes(family);
    });
    const calls = ['fusion', 'call', 'conditional', 'while', 'sort', 'topk', 'scatter'];
    expect(counted.toSorted()).toEqual([...expected, ...calls].toSorted());
  });
});

/** A computation of one element-wise instruction, which need not obey the rules of HLO. */
function bodyOf(opcode: Opcode, type: ElementType): HloComputation {
  const shape = arrayShape(type, [5]);
  const parameters = [b.parameter(0, shape), b.parameter(1, shape)];
  const count = unaryOpcodes.some((it) => it === opcode) ? 1 : 2;
  const operands = parameters.slice(0, count);
  const result = opcode === 'is-finite' ? arrayShape('pred', [5]) : shape;
  const root = { opcode, shape: result, operands } as unknown as HloInstruction;
  return b.computation('body', parameters, root);
}

/** A computation of two scalars, such as the body of a reduction. */
function onScalars(
  name: string,
  make: (a: HloInstruction, c: HloInstruction) => HloInstruction,
): HloComputation {
  const parameters = [0, 1].map((i) => b.parameter(i, arrayShape('f32', [])));
  return b.computation(name, parameters, make(at(parameters, 0), at(parameters, 1)));
}

/** The first element of a vector, as a scalar. */
function first(vector: HloInstruction): HloInstruction {
  return b.reshape(b.slice(vector, [0], [1]), []);
}
