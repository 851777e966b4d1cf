import { elementBytes } from '../numerics/element-type.ts';
import { type ArrayShape, product } from '../numerics/shape.ts';
import { tpuV2 } from '../spec/tpu-v2.ts';
import { align } from './allocate.ts';

/**
 * Bytes of an array in HBM, where its two minor dimensions are padded to a tile of (s, 128): s is
 * the smallest power of two that holds the second-minor dimension, at most 8; narrow types pack
 * rows into words, so s is at least 2 for bf16 and 4 for a byte. An array of one dimension is one
 * row. This reproduces the sizes in out-of-memory messages of XLA that users published.
 */
export function paddedBytes({ type, dims }: ArrayShape): number {
  const width = elementBytes(type);
  const lanes = align(dims.at(-1) ?? 1, tpuV2.tileLanes);
  const rows = dims.at(-2) ?? 1;
  const tileRows = Math.min(tpuV2.tileSublanes, Math.max(powerOfTwoFrom(rows), rowsPerWord(width)));
  return product(dims.slice(0, -2)) * align(rows, tileRows) * lanes * width;
}

/** Buffers start at a multiple of a row of f32 lanes. */
export const hbmAlignment: number = tpuV2.tileLanes * 4;

/**
 * Bytes of the program's text in HBM, an estimate: 322-bit instructions, for each instruction of
 * the executable so many as a software-pipelined loop of its unit takes.
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

/** Assumptions: prologue, unrolled body and epilogue; the MXU's with weight pushes and pops. */
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
