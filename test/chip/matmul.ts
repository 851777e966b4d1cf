import type { Multiplicands, MxuCall } from '../../src/chip/mxu.ts';
import { roundToBf16 } from '../../src/numerics/bf16.ts';

/**
 * A matmul with its operands and offset tables, as a test makes it before it writes them to a
 * WebAssembly memory.
 */
export interface Case {
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly segments: number;
  readonly multiplicands: Multiplicands;
  readonly rowOffsets: Int32Array;
  readonly lhsDepthOffsets: Int32Array;
  readonly rhsDepthOffsets: Int32Array;
  readonly columnOffsets: Int32Array;
  /**
   * Elements of the left operand. It has `segments` parts of `lhsSegment` elements, one after
   * another. The right operand has as many parts. The result is the sum, over all i, of the product
   * of part i of the left operand with part i of the right operand. The offset of an element in its
   * part is the sum of two entries of the offset tables: one for its row or column, one for its
   * depth. Some elements may not be used.
   */
  readonly lhs: Float32Array;
  readonly rhs: Float32Array;
  readonly lhsSegment: number;
  readonly rhsSegment: number;
}

/**
 * Returns the result of a matmul by its definition. Each product is computed in f64 and rounded to
 * f32. If its magnitude is below 2^-126, it becomes 0 instead. Sums are in f32, in tiles of 128
 * products.
 */
export function defined(it: Case): Float32Array {
  const round = it.multiplicands === 'bf16' ? roundToBf16 : (value: number) => value;
  const result = new Float32Array(it.m * it.n);
  for (let row = 0; row < it.m; row++) {
    for (let column = 0; column < it.n; column++) {
      for (let s = 0; s < it.segments; s++) {
        let segment = 0;
        for (let tile = 0; tile < it.k; tile += 128) {
          let chain = 0;
          for (let k = tile; k < Math.min(tile + 128, it.k); k++) {
            const a = it.lhs[s * it.lhsSegment + it.rowOffsets[row]! + it.lhsDepthOffsets[k]!]!;
            const b =
              it.rhs[s * it.rhsSegment + it.rhsDepthOffsets[k]! + it.columnOffsets[column]!]!;
            const exact = round(a) * round(b);
            const product = Math.abs(exact) < 2 ** -126 ? 0 : Math.fround(exact);
            chain = Math.fround(chain + product);
          }
          segment = tile === 0 ? chain : Math.fround(segment + chain);
        }
        const at = row * it.n + column;
        result[at] = s === 0 ? segment : Math.fround(result[at]! + segment);
      }
    }
  }
  return result;
}

/**
 * Writes the operands and tables of a case to memory, one after another, beginning at `address`.
 */
export function placed(it: Case, memory: WebAssembly.Memory, address: number): MxuCall {
  let end = address;
  const put = (words: Float32Array | Int32Array): number => {
    const at = end;
    new Uint32Array(memory.buffer, at, words.length).set(
      new Uint32Array(words.buffer, words.byteOffset, words.length),
    );
    end += words.length * 4;
    return at;
  };
  return {
    m: it.m,
    n: it.n,
    k: it.k,
    segments: it.segments,
    multiplicands: it.multiplicands,
    lhs: put(it.lhs),
    rhs: put(it.rhs),
    rowOffsets: put(it.rowOffsets),
    lhsDepthOffsets: put(it.lhsDepthOffsets),
    rhsDepthOffsets: put(it.rhsDepthOffsets),
    columnOffsets: put(it.columnOffsets),
    lhsSegmentStride: it.lhsSegment * 4,
    rhsSegmentStride: it.rhsSegment * 4,
    result: put(new Float32Array(it.m * it.n).fill(-7)),
  };
}

/** Returns the bits of the result after a call. All NaNs have the same bits. */
export function resultBits(call: MxuCall, memory: WebAssembly.Memory): Uint32Array {
  return bitsOf(new Float32Array(memory.buffer, call.result, call.m * call.n));
}

/** The bits of f32 numbers. All NaNs have the same bits. */
export function bitsOf(values: Float32Array): Uint32Array {
  const copy = values.slice().map((value) => (Number.isNaN(value) ? Number.NaN : value));
  return new Uint32Array(copy.buffer).map((word, i) =>
    Number.isNaN(copy[i]!) ? 0x7fc0_0000 : word,
  );
}
