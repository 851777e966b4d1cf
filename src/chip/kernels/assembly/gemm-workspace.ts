/**
 * Sizes of the blocks that a matmul is divided into, and byte offsets of the buffers in the
 * workspace (scratch memory) of a call.
 */
import { ROWS } from './config';

export const COLUMNS: i32 = 8;
export const TILE: i32 = 128;
// Block sizes: a block of A (ROW_BLOCK × DEPTH_BLOCK floats) and a block of B (COLUMN_BLOCK ×
// DEPTH_BLOCK floats) fit into the level 2 cache together.
export const ROW_BLOCK: i32 = ROWS * 16;
export const COLUMN_BLOCK: i32 = 512;
export const DEPTH_BLOCK: i32 = 384;
// Size of the buffer TOTAL, which holds sums of one segment (one of the matmuls that a call adds
// up). The kernel uses this buffer if a call has several segments and a segment has several tiles.
export const TOTAL_ROWS: i32 = 384;
export const TOTAL_COLUMNS: i32 = 256;
// Largest number of consecutive words of A that the kernel rounds to bf16 before it packs them. To
// round first saves time if the windows of a convolution overlap: a word is then packed several
// times, but rounded only once.
export const STAGE_WORDS: i32 = 24576;
// LISTED_WORDS is the largest number of words of a sparse operand for which the kernel makes one
// list of nonzero values. TURNED_WORDS is the number of sums in a block of the transpose of C.
export const LISTED_WORDS: i32 = STAGE_WORDS;
const TURNED_WORDS: i32 = 64 * COLUMN_BLOCK;

export const PACKED_ROWS: usize = 0;
export const PACKED_COLUMNS: usize = PACKED_ROWS + ROW_BLOCK * DEPTH_BLOCK * 4;
export const ROW_RANGES: usize = PACKED_COLUMNS + COLUMN_BLOCK * DEPTH_BLOCK * 4;
export const COLUMN_RANGES: usize = ROW_RANGES + 16 * 8;
export const EDGE: usize = COLUMN_RANGES + (COLUMN_BLOCK / COLUMNS) * 8;
export const STAGE: usize = EDGE + 6 * COLUMNS * 4;
export const TOTAL: usize = STAGE + STAGE_WORDS * 4;
// Byte offsets of the buffers for sparse matmuls, see gemm-sparse.ts. STRIPS, the packed dense
// operand of a sparse matmul, shares memory with the packed columns of a dense matmul.
export const STRIPS: usize = PACKED_COLUMNS;
export const SPARSE_RANGES: usize = ROW_RANGES;
export const ENTRIES: usize = TOTAL + TOTAL_ROWS * TOTAL_COLUMNS * 4;
export const STARTS: usize = ENTRIES + (LISTED_WORDS + 1) * 8;
export const PIECES: usize = STARTS + (LISTED_WORDS + 2) * 4;
export const ROW_NUMBERS: usize = PIECES + 1025 * 16;
export const TURNED: usize = ROW_NUMBERS + 64 * 4;
export const UNUSED: usize = TURNED + TURNED_WORDS * 4;
export const WORKSPACE: usize = UNUSED + 64;
