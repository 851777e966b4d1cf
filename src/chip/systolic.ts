import { roundToBf16 } from '../numerics/bf16.ts';
import { tpuV2 } from '../spec/tpu-v2.ts';
import type { Mxu, MxuCall } from './mxu.ts';

/** Rows and columns of the array. */
const side = tpuV2.mxuSide;
const smallestNormal = 2 ** -126;

/** An MXU that also counts the cycles of its array. */
export interface SystolicMxu extends Mxu {
  /** Cycles of all products so far. */
  cycles(): number;
}

/**
 * The registers of a 128×128 array, row-major: in each cell a weight at work, a weight on its
 * way down, an activation on its way right, and a partial sum on its way down.
 */
interface CellArray {
  readonly weights: Float32Array;
  readonly nextWeights: Float32Array;
  readonly activations: Float32Array;
  readonly sums: Float32Array;
}

/** Where one product lies, as views of the memory; offsets and bases in elements. */
interface Operands {
  readonly call: MxuCall;
  readonly words: Float32Array;
  readonly rowOffsets: Int32Array;
  readonly lhsDepthOffsets: Int32Array;
  readonly rhsDepthOffsets: Int32Array;
  readonly columnOffsets: Int32Array;
  readonly round: (value: number) => number;
}

/** 128 depths by 128 columns of B, which the array holds while all rows of A pass. */
interface Tile {
  readonly lhsBase: number;
  readonly rhsBase: number;
  readonly depth: number;
  readonly column: number;
}

/**
 * The MXU register by register, cycle by cycle: weights stand still, activations enter from the
 * left, row r of the array r cycles after row 0, partial sums leave below. The next tile's
 * weights are pushed from above, one row a cycle, while the present one works; so only the first
 * push is a wait. Cycles of a product: 128 to fill, then rows + 2·128 − 1 for each tile. Slow;
 * it is what the fast MXU is held against.
 */
export function systolicMxu(memory: WebAssembly.Memory): SystolicMxu {
  const array: CellArray = {
    weights: new Float32Array(side * side),
    nextWeights: new Float32Array(side * side),
    activations: new Float32Array(side * side),
    sums: new Float32Array(side * side),
  };
  let cycles = 0;
  return {
    multiply(call: MxuCall): void {
      cycles += matmul(array, operandsOf(memory, call));
    },
    cycles: () => cycles,
  };
}

function operandsOf(memory: WebAssembly.Memory, call: MxuCall): Operands {
  const table = (address: number, count: number) => new Int32Array(memory.buffer, address, count);
  return {
    call,
    words: new Float32Array(memory.buffer),
    rowOffsets: table(call.rowOffsets, call.m),
    lhsDepthOffsets: table(call.lhsDepthOffsets, call.k),
    rhsDepthOffsets: table(call.rhsDepthOffsets, call.k),
    columnOffsets: table(call.columnOffsets, call.n),
    round: call.multiplicands === 'bf16' ? roundToBf16 : (value) => value,
  };
}

/** Runs all tiles, each segment's total apart, and returns the cycles. */
function matmul(array: CellArray, operands: Operands): number {
  const { m, n, k, segments } = operands.call;
  const total = new Float32Array(m * n);
  const result = new Float32Array(operands.words.buffer, operands.call.result, m * n);
  const tiles = tilesOf(operands.call);
  let cycles = pushAll(array, operands, tiles[0]!);
  tiles.forEach((tile, i) => {
    array.weights.set(array.nextWeights);
    cycles += streamRows(array, operands, tile, tiles[i + 1], total);
    const lastOfSegment = tile.column + side >= n && tile.depth + side >= k;
    if (lastOfSegment) addSegment(result, total, i < tiles.length / segments);
  });
  return cycles;
}

/** In the order of the sums: segments, then depths; the columns of a depth are independent. */
function tilesOf({ n, k, segments, ...call }: MxuCall): Tile[] {
  const tiles: Tile[] = [];
  for (let s = 0; s < segments; s++) {
    const lhsBase = (call.lhs + s * call.lhsSegmentStride) / 4;
    const rhsBase = (call.rhs + s * call.rhsSegmentStride) / 4;
    for (let depth = 0; depth < k; depth += side) {
      for (let column = 0; column < n; column += side) {
        tiles.push({ lhsBase, rhsBase, depth, column });
      }
    }
  }
  return tiles;
}

function addSegment(result: Float32Array, total: Float32Array, first: boolean): void {
  for (let i = 0; i < total.length; i++) result[i] = first ? total[i]! : result[i]! + total[i]!;
  total.fill(0);
}

/** Fills the waiting weights of an idle array; returns the cycles it takes. */
function pushAll(array: CellArray, operands: Operands, tile: Tile): number {
  for (let cycle = 0; cycle < side; cycle++) pushRow(array, operands, tile, cycle);
  return side;
}

/** One cycle of the push: waiting weights move down a row, the next from below enters on top. */
function pushRow(array: CellArray, operands: Operands, tile: Tile, cycle: number): void {
  array.nextWeights.copyWithin(side, 0, side * (side - 1));
  for (let c = 0; c < side; c++) {
    array.nextWeights[c] = weightAt(operands, tile, side - 1 - cycle, c);
  }
}

/** Lets all rows of A pass the tile, and adds what leaves below to the total; returns cycles. */
function streamRows(
  array: CellArray,
  operands: Operands,
  tile: Tile,
  next: Tile | undefined,
  total: Float32Array,
): number {
  const { m, n } = operands.call;
  const columns = Math.min(side, n - tile.column);
  const entering = new Float32Array(side);
  const cycles = m + 2 * side - 1;
  for (let cycle = 0; cycle < cycles; cycle++) {
    for (let r = 0; r < side; r++) entering[r] = activationAt(operands, tile, cycle - r, r);
    clock(array, entering);
    if (next && cycle < side) pushRow(array, operands, next, cycle);
    for (let c = 0; c < columns; c++) {
      const row = cycle - (side - 1) - c;
      if (row < 0 || row >= m) continue;
      const at = row * n + tile.column + c;
      const sum = array.sums[(side - 1) * side + c]!;
      total[at] = tile.depth === 0 ? sum : total[at]! + sum;
    }
  }
  return cycles;
}

/**
 * One cycle of every cell: take the activation of the left neighbour and the sum of the upper
 * one, add the product with the weight. From the last cell to the first, so that each still
 * finds what its neighbours held before the cycle.
 */
function clock({ weights, activations, sums }: CellArray, entering: Float32Array): void {
  for (let r = side - 1; r >= 0; r--) {
    for (let c = side - 1; c >= 0; c--) {
      const cell = r * side + c;
      const activation = c > 0 ? activations[cell - 1]! : entering[r]!;
      const above = r > 0 ? sums[cell - side]! : 0;
      activations[cell] = activation;
      sums[cell] = above + multiplied(activation, weights[cell]!);
    }
  }
}

/** The product of two f32 as an f32; an exact one below the normal range is +0. */
function multiplied(a: number, b: number): number {
  const exact = a * b;
  return Math.abs(exact) < smallestNormal ? 0 : Math.fround(exact);
}

/** B at a row and column of the tile; zero beyond its edges. */
function weightAt(operands: Operands, tile: Tile, r: number, c: number): number {
  const { words, rhsDepthOffsets, columnOffsets, round } = operands;
  const row = rhsDepthOffsets[tile.depth + r];
  const column = columnOffsets[tile.column + c];
  if (row === undefined || column === undefined) return 0;
  return round(words[tile.rhsBase + row + column]!);
}

/** A at a row of C and a row of the array; zero before, after and beyond the edges. */
function activationAt(operands: Operands, tile: Tile, row: number, r: number): number {
  const { words, rowOffsets, lhsDepthOffsets, round } = operands;
  const offset = rowOffsets[row];
  const depth = lhsDepthOffsets[tile.depth + r];
  if (offset === undefined || depth === undefined) return 0;
  return round(words[tile.lhsBase + offset + depth]!);
}
