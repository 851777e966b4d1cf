import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import * as b from '../../src/hlo/build.ts';
import { cholesky, triangularSolve } from '../../src/hlo/build-linear-algebra.ts';
import type { HloInstruction, TriangularSolve } from '../../src/hlo/instruction.ts';
import { typesOfKind } from '../../src/hlo/ops/check.ts';
import { parse } from '../../src/hlo/parse.ts';
import { print } from '../../src/hlo/print.ts';
import { at } from '../../src/numerics/assert.ts';
import { type Literal, literal, valuesOf } from '../../src/numerics/literal.ts';
import { arrayShape, product } from '../../src/numerics/shape.ts';
import {
  choleskyF64,
  matricesOf,
  multiplied,
  type SolveOptions,
  solveF64,
  transposed,
  triangleOf,
} from './linear-algebra-f64.ts';
import { run } from './run.ts';

/** Evaluates an instruction that computes one array. */
function first(...of: Parameters<typeof run>): Literal {
  return at(run(...of), 0);
}

const sizes = fc.record({
  batch: fc.array(fc.integer({ min: 0, max: 3 }), { maxLength: 2 }),
  n: fc.integer({ min: 0, max: 5 }),
  m: fc.integer({ min: 0, max: 4 }),
  seed: fc.array(fc.double({ min: -1, max: 1, noNaN: true }), { minLength: 200, maxLength: 200 }),
});

/** Returns values for an array, taken from a list again and again. */
function drawn(seed: readonly number[], dims: readonly number[]): number[] {
  return Array.from({ length: product(dims) }, (_, i) =>
    Math.fround(seed[(i * 7 + dims.length) % seed.length]! + (i % 5) / 4),
  );
}

/** Returns symmetric positive definite matrices. */
function definite(seed: readonly number[], dims: readonly number[]): number[] {
  return matricesOf(drawn(seed, dims), dims).flatMap((g) =>
    multiplied(g, transposed(g)).flatMap((row, i) =>
      row.map((x, j) => Math.fround(x + (i === j ? 0.5 : 0))),
    ),
  );
}

const close = (found: number, expected: number, size: number): void =>
  expect(Math.abs(found - expected)).toBeLessThan(1e-5 * Math.max(1, size));

describe('a Cholesky decomposition', () => {
  test('multiplied by its transpose is the matrix', () => {
    fc.assert(
      fc.property(sizes, fc.boolean(), ({ batch, n, seed }, isLower) => {
        const dims = [...batch, n, n];
        const a = literal('f32', dims, definite(seed, dims));
        const result = first(([x]) => cholesky(x!, isLower), [a]);
        const triangles = matricesOf(valuesOf(result), dims);
        matricesOf(valuesOf(a), dims).forEach((matrix, k) => {
          const t = isLower ? triangles[k]! : transposed(triangles[k]!);
          multiplied(t, transposed(t)).forEach((row, i) => {
            row.forEach((x, j) => {
              close(x, matrix[i]![j]!, 20);
            });
            expect(t[i]!.slice(i + 1).every((x) => x === 0)).toBe(true);
          });
        });
      }),
    );
  });

  test('subtracts the products in order of the columns, in f32, for every type', () => {
    fc.assert(
      fc.property(
        sizes,
        fc.constantFrom(...typesOfKind('float')),
        fc.boolean(),
        ({ batch, n, seed }, type, isLower) => {
          const dims = [...batch, n, n];
          const a = literal(type, dims, definite(seed, dims));
          const expected = matricesOf(valuesOf(a), dims).flatMap((matrix) => {
            const l = choleskyF64(isLower ? matrix : transposed(matrix), Math.fround);
            const isNone = l.some((row, i) => !(row[i]! > 0));
            if (isNone) return l.flatMap((row) => row.map(() => Number.NaN));
            return (isLower ? l : transposed(l)).flat();
          });
          const result = first(([x]) => cholesky(x!, isLower), [a]);
          expect(valuesOf(result)).toEqual(valuesOf(literal(type, dims, expected)));
        },
      ),
    );
  });

  test('reads one triangle only', () => {
    const none = Number.NaN;
    const lower = literal('f32', [3, 3], [4, none, none, 2, 5, none, 2, 5, 30]);
    const upper = literal('f32', [3, 3], [4, 2, 2, none, 5, 5, none, none, 30]);
    expect(valuesOf(first(([x]) => cholesky(x!), [lower]))).toEqual([2, 0, 0, 1, 2, 0, 1, 2, 5]);
    expect(valuesOf(first(([x]) => cholesky(x!, false), [upper]))).toEqual([
      2, 1, 1, 0, 2, 2, 0, 0, 5,
    ]);
  });

  test('is NaN for a matrix that is not positive definite, and only for that one', () => {
    const a = literal('f32', [3, 2, 2], [4, 0, 2, 1, 4, 0, 2, 2, -1, 0, 0, 1]);
    const none = [Number.NaN, Number.NaN, Number.NaN, Number.NaN];
    expect(valuesOf(first(([x]) => cholesky(x!), [a]))).toEqual([...none, 2, 0, 1, 1, ...none]);
  });

  const x = b.parameter(0, arrayShape('f32', [2, 3, 3]));
  test('is printed as XLA prints it', () => {
    const text = (isLower: boolean): string => print(b.module('m', [x], cholesky(x, isLower)));
    expect(text(true)).toContain('f32[2,3,3] cholesky(%parameter.0), lower=true\n');
    expect(text(false)).toContain('f32[2,3,3] cholesky(%parameter.0)\n');
  });

  test.each([
    ['a vector', [3], 'f32' as const, 'cholesky(f32[3]): expected square matrices as operand 0'],
    ['a row', [1, 3], 'f32' as const, 'cholesky(f32[1,3]): expected square matrices as operand 0'],
    ['integers', [3, 3], 's32' as const, 'cholesky(s32[3,3]): expected elements of a float type'],
  ])('of %s is refused', (_, dims, type, message) => {
    expect(() => cholesky(b.parameter(0, arrayShape(type, dims)))).toThrow(message);
  });
});

const options = fc.record({
  isLeftSide: fc.boolean(),
  isLower: fc.boolean(),
  hasUnitDiagonal: fc.boolean(),
  transpose: fc.constantFrom<TriangularSolve['transpose']>('NO_TRANSPOSE', 'TRANSPOSE', 'ADJOINT'),
});

function inTest(given: Pick<TriangularSolve, 'transpose'> & Omit<SolveOptions, 'isTransposed'>) {
  return { ...given, isTransposed: given.transpose !== 'NO_TRANSPOSE' };
}

describe('a triangular solve', () => {
  test('solves the equations, and reads one triangle only', () => {
    fc.assert(
      fc.property(sizes, options, ({ batch, n, m, seed }, given) => {
        const dims = [...batch, n, n];
        const bDims = [...batch, ...(given.isLeftSide ? [n, m] : [m, n])];
        const isRead = (i: number, j: number): boolean =>
          i === j ? !given.hasUnitDiagonal : i > j === given.isLower;
        const values = drawn(seed, dims).map((x, k) => {
          const [i, j] = [Math.floor(k / n) % n, k % n];
          if (!isRead(i, j)) return Number.NaN;
          return i === j ? 2 + Math.abs(x) : x / 2;
        });
        const a = literal('f32', dims, values);
        const right = literal('f32', bDims, drawn(seed, bDims));
        const result = first(([p, q]) => triangularSolve(p!, q!, given), [a, right]);
        if (result.data.length === 0) return;
        const test = inTest(given);
        const unknowns = matricesOf(valuesOf(result), bDims);
        matricesOf(valuesOf(right), bDims).forEach((matrix, k) => {
          const triangle = triangleOf(matricesOf(valuesOf(a), dims)[k]!, test);
          const op = test.isTransposed ? transposed(triangle) : triangle;
          const x = unknowns[k]!;
          const found = given.isLeftSide ? multiplied(op, x) : multiplied(x, op);
          const size = Math.max(...x.flat().map(Math.abs));
          found.forEach((row, i) => {
            row.forEach((value, j) => {
              close(value, matrix[i]![j]!, 20 * size);
            });
          });
        });
      }),
    );
  });

  test('subtracts the products in the order of the unknowns, in f32, for every type', () => {
    fc.assert(
      fc.property(
        sizes,
        options,
        fc.constantFrom(...typesOfKind('float')),
        ({ batch, n, m, seed }, given, type) => {
          const dims = [...batch, n, n];
          const bDims = [...batch, ...(given.isLeftSide ? [n, m] : [m, n])];
          const a = literal(type, dims, drawn(seed, dims));
          const right = literal(type, bDims, drawn(seed.toReversed(), bDims));
          const triangles = matricesOf(valuesOf(a), dims);
          const expected = matricesOf(valuesOf(right), bDims).flatMap((matrix, k) =>
            solveF64(triangles[k]!, matrix, inTest(given), Math.fround).flat(),
          );
          const result = first(([p, q]) => triangularSolve(p!, q!, given), [a, right]);
          expect(valuesOf(result)).toEqual(valuesOf(literal(type, bDims, expected)));
        },
      ),
    );
  });

  const a = b.parameter(0, arrayShape('f32', [2, 3, 3]));
  const x = b.parameter(1, arrayShape('f32', [2, 3, 4]));
  test('is printed as XLA prints it', () => {
    const text = (it: HloInstruction): string => print(b.module('m', [a, x], it));
    expect(text(triangularSolve(a, x, { hasUnitDiagonal: true }))).toContain(
      'triangular-solve(%parameter.0, %parameter.1), left_side=true, lower=true, unit_diagonal=true, transpose_a=NO_TRANSPOSE',
    );
    expect(text(triangularSolve(a, x, { isLower: false, transpose: 'ADJOINT' }))).toContain(
      'triangular-solve(%parameter.0, %parameter.1), left_side=true, transpose_a=ADJOINT',
    );
  });

  const shaped = (type: 'f32' | 'bf16' | 's32', ...dims: number[]) =>
    b.parameter(0, arrayShape(type, dims));
  test.each([
    ['integers', shaped('s32', 3, 3), x, 'expected elements of a float type, not s32'],
    ['no squares', shaped('f32', 2, 3, 4), x, 'expected square matrices as operand 0'],
    ['two types', shaped('bf16', 2, 3, 3), x, 'expected operands of one element type'],
    ['two batches', shaped('f32', 3, 3, 3), x, 'expected operands of one batch'],
    ['two ranks', shaped('f32', 3, 3), x, 'expected operands of one batch'],
    ['too many rows', shaped('f32', 2, 4, 4), x, 'expected operand 1 with 4 rows'],
  ])('of %s is refused', (_, matrix, right, message) => {
    expect(() => triangularSolve(matrix, right)).toThrow(message);
  });

  test('from the right with too few columns is refused', () => {
    const message = 'triangular-solve(f32[2,3,3], f32[2,3,4]): expected operand 1 with 3 columns';
    expect(() => triangularSolve(a, x, { isLeftSide: false })).toThrow(message);
  });

  test('without transpose_a, or with another word there, is refused', () => {
    const text = print(b.module('m', [a, x], triangularSolve(a, x)));
    expect(() => parse(text.replace(', transpose_a=NO_TRANSPOSE', ''))).toThrow(
      'expected attribute transpose_a',
    );
    expect(() => parse(text.replace('NO_TRANSPOSE', 'HALF'))).toThrow(
      'expected NO_TRANSPOSE or TRANSPOSE or ADJOINT, found "HALF"',
    );
  });
});
