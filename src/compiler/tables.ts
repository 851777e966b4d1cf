import type { Convolution, Dot, HloInstruction } from '../hlo/instruction.ts';
import { at } from '../numerics/assert.ts';
import type { ArrayShape } from '../numerics/shape.ts';
import { stridesOf } from '../numerics/shape.ts';

/**
 * Offset tables of a matmul. They tell where the elements of the two operands lie in memory.
 * Offsets are in elements. If `swapped` is true, the second operand of the HLO instruction is the
 * left operand of the matmul. Otherwise the first operand is the left one.
 */
export interface MatmulTables {
  readonly swapped: boolean;
  readonly lhsBatch: Int32Array;
  readonly rhsBatch: Int32Array;
  readonly rows: Int32Array;
  readonly lhsDepth: Int32Array;
  readonly rhsDepth: Int32Array;
  readonly columns: Int32Array;
}

/**
 * Returns the offset tables of a dot, whatever the order of its dimensions. Rows, columns and depth
 * (the contracted dimensions) are row-major.
 */
export function dotTables(it: Dot): MatmulTables {
  const [lhs, rhs] = operandDims(it);
  const free = (rank: number, used: readonly number[]): number[] =>
    Array.from({ length: rank }, (_, d) => d).filter((d) => !used.includes(d));
  const lhsFree = free(lhs.length, [...it.lhsBatch, ...it.lhsContracting]);
  const rhsFree = free(rhs.length, [...it.rhsBatch, ...it.rhsContracting]);
  return {
    swapped: false,
    lhsBatch: walk(axesOf(lhs, it.lhsBatch)),
    rhsBatch: walk(axesOf(rhs, it.rhsBatch)),
    rows: walk(axesOf(lhs, lhsFree)),
    lhsDepth: walk(axesOf(lhs, it.lhsContracting)),
    rhsDepth: walk(axesOf(rhs, it.rhsContracting)),
    columns: walk(axesOf(rhs, rhsFree)),
  };
}

/**
 * Returns the offset tables that compute a convolution as a matmul of image patches and kernel. The
 * convolution must have the form that the pass `canonicalize` produces.
 *
 * If the output feature is the first dimension of the result (`swapped`), rows are output features
 * and columns are output positions. Otherwise rows are output positions and columns are output
 * features. The matmul sums over the window positions in row-major order, and at each window
 * position over the input features.
 */
export function convolutionTables(it: Convolution): MatmulTables {
  const [input, kernel] = operandDims(it);
  const of = it.dimensions;
  const inputStrides = stridesOf(input);
  const kernelStrides = stridesOf(kernel);
  const positions = it.shape.dims.flatMap((size, d): Axis[] => {
    if (d === of.outputFeature) return [];
    if (d === of.outputBatch) return [{ size, stride: at(inputStrides, of.inputBatch) }];
    const i = of.outputSpatial.indexOf(d);
    const step = at(it.window, i).stride;
    return [{ size, stride: step * at(inputStrides, at(of.inputSpatial, i)) }];
  });
  const patch = it.window.map(({ size, windowDilation }, i) => ({
    size,
    stride: windowDilation * at(inputStrides, at(of.inputSpatial, i)),
  }));
  const taps = it.window.map(({ size, reversal }, i) => {
    const stride = at(kernelStrides, at(of.kernelSpatial, i));
    return reversal ? { size, stride: -stride, start: (size - 1) * stride } : { size, stride };
  });
  const one = Int32Array.of(0);
  const features = axesOf(kernel, [of.kernelOutputFeature]);
  const image = {
    free: walk(positions),
    depth: walk([...patch, ...axesOf(input, [of.inputFeature])]),
  };
  const filter = {
    free: walk(features),
    depth: walk([...taps, ...axesOf(kernel, [of.kernelInputFeature])]),
  };
  const swapped = of.outputFeature === 0 && it.shape.dims.length > 1;
  const [left, right] = swapped ? [filter, image] : [image, filter];
  return {
    swapped,
    lhsBatch: one,
    rhsBatch: one,
    rows: left.free,
    lhsDepth: left.depth,
    rhsDepth: right.depth,
    columns: right.free,
  };
}

/**
 * Collects the offset tables of all matmuls of a program and gives each table an index. Equal
 * tables share an index.
 */
export class TableSet {
  readonly #tables: Int32Array[] = [];
  readonly #byHash: Map<number, number[]> = new Map();

  get tables(): readonly Int32Array[] {
    return this.#tables;
  }

  indexOf(table: Int32Array): number {
    const hash = hashOf(table);
    const candidates = this.#byHash.get(hash) ?? [];
    const known = candidates.find((i) => sameItems(at(this.#tables, i), table));
    if (known !== undefined) return known;
    this.#byHash.set(hash, [...candidates, this.#tables.length]);
    return this.#tables.push(table) - 1;
  }
}

/**
 * One of several nested loops over elements in memory. It visits `size` offsets, in elements:
 * `start` (0 by default), `start` + `stride`, `start` + 2 · `stride` and so on.
 */
interface Axis {
  readonly size: number;
  readonly stride: number;
  readonly start?: number;
}

function axesOf(dims: readonly number[], chosen: readonly number[]): Axis[] {
  const strides = stridesOf(dims);
  return chosen.map((d) => ({ size: at(dims, d), stride: at(strides, d) }));
}

/**
 * Returns the offsets that nested loops over the axes visit, in order. Each offset is the sum of
 * the offsets of the single loops. The last axis is the innermost loop.
 */
function walk(axes: readonly Axis[]): Int32Array {
  let offsets = Int32Array.of(0);
  for (const { size, stride, start = 0 } of axes) {
    const longer = new Int32Array(offsets.length * size);
    for (let i = 0; i < offsets.length; i++) {
      const base = offsets[i]! + start;
      for (let j = 0; j < size; j++) longer[i * size + j] = base + j * stride;
    }
    offsets = longer;
  }
  return offsets;
}

function operandDims(it: HloInstruction): [readonly number[], readonly number[]] {
  const dims = it.operands.map(({ shape }) => (shape as ArrayShape).dims);
  return [at(dims, 0), at(dims, 1)];
}

function hashOf(table: Int32Array): number {
  let hash = table.length;
  for (let i = 0; i < table.length; i++) hash = Math.imul(hash ^ table[i]!, 0x0100_0193);
  return hash;
}

function sameItems(a: Int32Array, b: Int32Array): boolean {
  return a.length === b.length && a.every((item, i) => item === b[i]);
}
