import { elementBytes } from '../numerics/element-type.ts';
import { type ArrayShape, product } from '../numerics/shape.ts';
import { tpuV2 } from '../spec/tpu-v2.ts';
import { align } from './allocate.ts';

/**
 * Returns the number of bytes that an array takes in HBM. The last dimension counts the elements of
 * a row, the dimension before it counts the rows; an array of one dimension is one row. Both
 * dimensions are padded to whole tiles of s rows × 128 elements. s is the number of rows, rounded
 * up to a power of two, but at most 8. Several rows share a 32-bit word if the type is narrower: 2
 * rows for bf16, 4 for types of one byte. s is at least this number. The formula reproduces the
 * sizes in published out-of-memory messages of XLA.
 */
export function paddedBytes({ type, dims }: ArrayShape): number {
  const width = elementBytes(type);
  const lanes = align(dims.at(-1) ?? 1, tpuV2.tileLanes);
  const rows = dims.at(-2) ?? 1;
  const tileRows = Math.min(tpuV2.tileSublanes, Math.max(powerOfTwoFrom(rows), rowsPerWord(width)));
  return product(dims.slice(0, -2)) * align(rows, tileRows) * lanes * width;
}

/** Alignment of buffers in HBM, in bytes: one row of a tile, 128 f32. */
export const hbmAlignment: number = tpuV2.tileLanes * 4;

/**
 * Returns an estimate of the number of bytes that the instructions of a program take in HBM. The
 * hardware executes bundles of 322 bits. On the hardware, each instruction of the executable would
 * become a software-pipelined loop of several bundles. The number of bundles in such a loop is an
 * assumption.
 */
export function programBytes(counts: {
  readonly fusedLoops: number;
  readonly matmuls: number;
  readonly others: number;
}): number {
  const bundles =
    counts.fusedLoops * bundlesPerFusedLoop +
    counts.matmuls * bundlesPerMatmul +
    counts.others * bundlesPerOther;
  return Math.ceil((bundles * tpuV2.instructionBits) / 8);
}

/**
 * Assumed number of bundles (instruction words of the hardware) that one instruction of the
 * executable takes: the prologue, the unrolled body and the epilogue of a loop. A matmul takes more
 * bundles, because its loop also pushes weights into the MXU and pops results.
 */
const bundlesPerFusedLoop = 256;
const bundlesPerMatmul = 1024;
const bundlesPerOther = 32;

function rowsPerWord(width: number): number {
  return Math.max(1, 4 / width);
}

function powerOfTwoFrom(n: number): number {
  let power = 1;
  while (power < n) power *= 2;
  return power;
}
