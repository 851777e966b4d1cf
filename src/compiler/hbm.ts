import { elementBytes } from '../numerics/element-type.ts';
import { type ArrayShape, product } from '../numerics/shape.ts';
import { tpuV2 } from '../spec/tpu-v2.ts';
import { align } from './allocate.ts';

/**
 * Bytes of an array in HBM, whose two minor dimensions are padded to a tile of (s, 128). s is the
 * smallest power of two that is not below the second-minor dimension, but at most 8. Narrow types
 * pack rows into 32-bit words, so s is at least 2 for bf16 and 4 for types of one byte. An array of
 * one dimension is one row. The formula reproduces the sizes in out-of-memory messages of XLA that
 * users published.
 */
export function paddedBytes({ type, dims }: ArrayShape): number {
  const width = elementBytes(type);
  const lanes = align(dims.at(-1) ?? 1, tpuV2.tileLanes);
  const rows = dims.at(-2) ?? 1;
  const tileRows = Math.min(tpuV2.tileSublanes, Math.max(powerOfTwoFrom(rows), rowsPerWord(width)));
  return product(dims.slice(0, -2)) * align(rows, tileRows) * lanes * width;
}

/** Alignment of buffers in HBM, in bytes: one row of f32 lanes. */
export const hbmAlignment: number = tpuV2.tileLanes * 4;

/**
 * Estimate of the program's text in HBM, in bytes. The hardware has instructions (bundles) of 322
 * bits; each instruction of the executable counts as the bundles of a software-pipelined loop.
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
 * Assumed bundles for prologue, unrolled body and epilogue of a loop. A loop of the MXU also pushes
 * weights and pops results.
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
