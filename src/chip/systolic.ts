import { roundToBf16 } from '../numerics/bf16.ts';
import { tpuV2 } from '../spec/tpu-v2.ts';
import type { Mxu, MxuCall } from './mxu.ts';

/** Number of rows of the array of cells. The number of columns is the same. */
const side = tpuV2.mxuSide;
const smallestNormal = 2 ** -126;

/** An MXU that also counts the cycles of its array. */
export interface SystolicMxu extends Mxu {
  /** Returns the cycles of all calls of `multiply` so far. */
  cycles(): number;
}

/**
 * Registers of the 128×128 cells of the array, row-major. Each cell has four registers: the weight
 * in use, a weight of the next tile that moves down, an activation that moves right, and a partial
 * sum that moves down.
 */
interface CellArray {
  readonly weights: Float32Array;
  readonly nextWeights: Float32Array;
  readonly activations: Float32Array;
  readonly sums: Float32Array;
}

/** Operands and tables of one call, as views of the memory. Offsets are in elements. */
interface Operands {
  readonly call: MxuCall;
  readonly words: Float32Array;
  readonly rowOffsets: Int32Array;
  readonly lhsDepthOffsets: Int32Array;
  readonly rhsDepthOffsets: Int32Array;
  readonly columnOffsets: Int32Array;
  readonly round: (value: number) => number;
}

/** The part of B, 128 × 128 elements, that the array holds while all rows of A pass through it. */
interface Tile {
  readonly lhsBase: number;
  readonly rhsBase: number;
  readonly depth: number;
  readonly column: number;
}

/**
 * Makes an MXU that emulates every register in every cycle. This MXU is slow; tests compare the
 * results of the fast MXU with its results.
 *
 * Weights (elements of a tile of B) stay in their cells. The elements of a row of A (activations)
 * enter from the left, one into each row of the array: element r enters row r, r cycles after
 * element 0. Partial sums move down and leave at the bottom.
 *
 * A call first takes 128 cycles to load the weights of the first tile. Then it takes m + 2·128 − 1
 * cycles for each tile, where m is the number of rows of A. Loading the other tiles costs no
 * cycles: the weights of the next tile enter from the top while the array works on the current
 * tile.
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

/**
 * Computes all tiles of a call and returns the number of cycles. A call may add several matmuls
 * (segments). The sum of each segment is kept apart in `total`, and is added to the result when the
 * segment is complete.
 */
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

/**
 * Lists the tiles in the order in which they are computed: by segment, then by depth, then by
 * column.
 */
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

/** Pushes all weights of the first tile into an idle array. Returns the number of cycles. */
function pushAll(array: CellArray, operands: Operands, tile: Tile): number {
  for (let cycle = 0; cycle < side; cycle++) pushRow(array, operands, tile, cycle);
  return side;
}

/**
 * Runs one cycle of loading `tile`: the weights that the array has already received move down by
 * one row, and the next row of `tile` enters at the top. The last row of `tile` enters first, so
 * that it ends at the bottom.
 */
function pushRow(array: CellArray, operands: Operands, tile: Tile, cycle: number): void {
  array.nextWeights.copyWithin(side, 0, side * (side - 1));
  for (let c = 0; c < side; c++) {
    array.nextWeights[c] = weightAt(operands, tile, side - 1 - cycle, c);
  }
}

/**
 * Streams all rows of A through the array, which holds the weights of `tile`, and adds the sums
 * that leave at the bottom to `total`. If there is a tile `next`, its weights enter the array at
 * the same time. Returns the number of cycles.
 */
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
 * Runs one cycle of every cell: the cell takes the activation of its left neighbour and the sum of
 * its upper neighbour, and adds activation · weight to the sum. The loop goes from the last cell to
 * the first, so that each cell reads the values that its neighbours had before the cycle.
 */
function clock({ weights, activations, sums }: CellArray, entering: Float32Array): void {
  for (let r = side - 1; r >= 0; r--) {
    for (let c = side - 1; c >= 0; c--) {
      const cell = r * side + c;
      const activation = c > 0 ? activations[cell - 1]! : entering[r]!;
      const above = r > 0 ? sums[cell - side]! : 0;
      activations[cell] = activation;
      sums[cell] = above + flushedProduct(activation, weights[cell]!);
    }
  }
}

/**
 * Returns the product of two f32, rounded to f32. A product whose exact magnitude is below 2^-126
 * becomes +0.
 */
function flushedProduct(a: number, b: number): number {
  const exact = a * b;
  return Math.abs(exact) < smallestNormal ? 0 : Math.fround(exact);
}

/** Returns the element of B at row `r` and column `c` of the tile, or 0 outside of B. */
function weightAt(operands: Operands, tile: Tile, r: number, c: number): number {
  const { words, rhsDepthOffsets, columnOffsets, round } = operands;
  const row = rhsDepthOffsets[tile.depth + r];
  const column = columnOffsets[tile.column + c];
  if (row === undefined || column === undefined) return 0;
  return round(words[tile.rhsBase + row + column]!);
}

/**
 * Returns the element of A that enters row `r` of the array for row `row` of C, or 0 outside of A.
 */
function activationAt(operands: Operands, tile: Tile, row: number, r: number): number {
  const { words, rowOffsets, lhsDepthOffsets, round } = operands;
  const offset = rowOffsets[row];
  const depth = lhsDepthOffsets[tile.depth + r];
  if (offset === undefined || depth === undefined) return 0;
  return round(words[tile.lhsBase + offset + depth]!);
}
