import { assert } from '../numerics/assert.ts';
import { tpuV2 } from '../spec/tpu-v2.ts';
import { wasm as fusedGemm } from './kernels/gemm-fma.wasm.ts';
import { wasm as plainGemm } from './kernels/gemm-muladd.wasm.ts';
import { loadKernels } from './kernels/load.ts';

/** What the MXU multiplies: f32 rounded to bf16, or f32 as it is. Sums are f32 either way. */
export type Multiplicands = 'bf16' | 'f32';

/**
 * One product over f32 memory, to which every dot and convolution comes down:
 *
 *     C[m,n] = Σ_k A(m,k) · B(k,n)      A(m,k) = lhs[rowOffsets[m] + lhsDepthOffsets[k]]
 *                                       B(k,n) = rhs[rhsDepthOffsets[k] + columnOffsets[n]]
 *
 * The four tables are s32, offsets in elements, in the same memory; a plain matrix has affine
 * tables, a convolution those of its windows over a padded input. C is dense, row-major.
 *
 * Order of sums: k ascends, cut into tiles of 128 from 0. Within a tile ((0 + p0) + p1) + …, the
 * tiles ((t0 + t1) + t2) + …, in f32. With S segments C = ((c0 + c1) + c2) + …, where c_s is the
 * whole product at lhs + s·lhsSegmentStride and rhs + s·rhsSegmentStride.
 *
 * A product p is exact; if |p| < 2^-126 it is +0, otherwise it is rounded to f32.
 */
export interface MxuCall {
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly segments: number;
  readonly multiplicands: Multiplicands;
  /** Byte addresses, multiples of 4, below 2^32. */
  readonly lhs: number;
  readonly rhs: number;
  readonly result: number;
  readonly rowOffsets: number;
  readonly lhsDepthOffsets: number;
  readonly rhsDepthOffsets: number;
  readonly columnOffsets: number;
  /** Bytes from one segment to the next; unused when there is one. */
  readonly lhsSegmentStride: number;
  readonly rhsSegmentStride: number;
}

/** The matrix unit, in either fidelity: the same bits. C must not overlap A, B or a table. */
export interface Mxu {
  multiply(call: MxuCall): void;
}

/** Depth of the array, and so of one chain of sums. */
export const mxuDepth: number = tpuV2.mxuSide;

/** Bytes of scratch that a fast MXU needs, 64-byte aligned, its own. */
export const mxuWorkspaceBytes: number = 1_868_992;

/** Exports of assembly/gemm.ts. */
interface GemmKernels {
  workspaceBytes(): number;
  gemm(
    m: number,
    n: number,
    k: number,
    lhs: number,
    rowTable: number,
    lhsDepthTable: number,
    rhs: number,
    rhsDepthTable: number,
    columnTable: number,
    result: number,
    segments: number,
    lhsSegmentStride: number,
    rhsSegmentStride: number,
    roundToBf16: boolean,
    workspaceAddress: number,
  ): void;
}

/**
 * The MXU at the speed of this machine. `relaxed` says whether fused multiply-adds may be used
 * (see engine.ts); the bits are the same without them.
 */
export function fastMxu(
  memory: WebAssembly.Memory,
  { relaxed }: { readonly relaxed: boolean },
  workspaceAddress: number,
): Mxu {
  assert(workspaceAddress % 64 === 0, `workspace of the MXU at ${workspaceAddress}, not aligned`);
  const plain = loadGemm(plainGemm, memory);
  const fused = relaxed ? loadGemm(fusedGemm, memory) : plain;
  return {
    multiply(call: MxuCall): void {
      // Products of whole f32 numbers are not exact: those are never fused.
      const rounds = call.multiplicands === 'bf16';
      (rounds ? fused : plain).gemm(
        call.m,
        call.n,
        call.k,
        call.lhs,
        call.rowOffsets,
        call.lhsDepthOffsets,
        call.rhs,
        call.rhsDepthOffsets,
        call.columnOffsets,
        call.result,
        call.segments,
        call.lhsSegmentStride,
        call.rhsSegmentStride,
        rounds,
        workspaceAddress,
      );
    },
  };
}

function loadGemm(base64: string, memory: WebAssembly.Memory): GemmKernels {
  const kernels = loadKernels<GemmKernels>(base64, memory);
  const needed = kernels.workspaceBytes();
  assert(needed <= mxuWorkspaceBytes, `the MXU needs ${needed} bytes of scratch`);
  return kernels;
}
