import { assert } from '../numerics/assert.ts';
import { tpuV2 } from '../spec/tpu-v2.ts';
import { wasm as fusedGemm } from './kernels/gemm-fma.wasm.ts';
import { wasm as plainGemm } from './kernels/gemm-muladd.wasm.ts';
import { loadKernels } from './kernels/load.ts';

/**
 * Type of the multiplicands: f32 values rounded to bf16, or plain f32. Sums are f32 in both cases.
 */
export type Multiplicands = 'bf16' | 'f32';

/**
 * One matmul on f32 data in memory. The compiler lowers every dot and convolution to such calls:
 *
 *     C[m,n] = Σ_k A(m,k) · B(k,n)      A(m,k) = lhs[rowOffsets[m] + lhsDepthOffsets[k]]
 *                                       B(k,n) = rhs[rhsDepthOffsets[k] + columnOffsets[n]]
 *
 * The four tables are arrays of s32 element offsets in the same memory as the data. For a plain
 * matrix, the offsets are multiples of the matrix's strides. For a convolution, they are the
 * offsets of windows over a padded input. C is dense and row-major.
 *
 * Order of sums: the products p0, p1, … are taken in ascending order of k and cut into tiles of
 * 128. The sum of a tile is ((0 + p0) + p1) + …. The sums t0, t1, … of the tiles are added in this
 * order: ((t0 + t1) + t2) + …. All sums are f32.
 *
 * A call with S segments adds S matmuls: C = ((c0 + c1) + c2) + …. Here c_s is the result of the
 * matmul of segment s, whose operands start at the byte addresses lhs + s·lhsSegmentStride and rhs
 * + s·rhsSegmentStride.
 *
 * A product whose exact magnitude is below 2^-126 counts as +0. All other products are rounded to
 * f32.
 */
export interface MxuCall {
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly segments: number;
  readonly multiplicands: Multiplicands;
  /** Byte address of the left operand. All addresses are multiples of 4 below 2^32. */
  readonly lhs: number;
  readonly rhs: number;
  readonly result: number;
  readonly rowOffsets: number;
  readonly lhsDepthOffsets: number;
  readonly rhsDepthOffsets: number;
  readonly columnOffsets: number;
  /** Bytes from one segment of the left operand to the next. Unused if `segments` is 1. */
  readonly lhsSegmentStride: number;
  readonly rhsSegmentStride: number;
}

/**
 * The matrix unit (MXU). Its two implementations, `fastMxu` and `systolicMxu`, compute
 * bit-identical results. The memory of the result must not overlap an operand or a table.
 */
export interface Mxu {
  multiply(call: MxuCall): void;
}

/** Depth of the MXU's array: the number of products in one tile of a sum. */
export const mxuDepth: number = tpuV2.mxuSide;

/**
 * Size of the scratch memory of a fast MXU, in bytes. Each MXU needs scratch memory of its own, at
 * an address that is a multiple of 64.
 */
export const mxuWorkspaceBytes: number = 1_868_992;

/** Exports of the WASM module that is compiled from assembly/gemm.ts. */
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
 * Makes an MXU that is as fast as this machine allows. If `relaxed` is true, bf16 matmuls use fused
 * multiply-adds (see engine.ts), which are faster. The results stay bit-identical.
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
      // f32 matmuls use the plain kernel, which rounds each product to f32 before it adds the
      // product. A fused multiply-add does not round the product. For two bf16 this makes no
      // difference, because their product is exact in f32. For two f32 the bits would differ.
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
