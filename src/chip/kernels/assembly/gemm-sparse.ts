/**
 * Matmuls C = A · B for the case that A or B is mostly zeros, such as the output of a ReLU or the
 * gradient of a max pooling.
 *
 * The kernels skip the products with a zero. The result stays bit-identical, because each skipped
 * product would be +0 or −0. A sum that starts from +0 is never −0, so adding ±0 does not change
 * it. Only 0 · ∞ and 0 · NaN are not zero, so the kernels check that the other (dense) operand is
 * finite.
 *
 * The kernels write a list of the nonzero values of the sparse operand, in ascending order of the
 * depth (k in C(m,n) = Σ_k A(m,k)·B(k,n)). Each entry of the list has a nonzero value and its
 * position. From the position the kernels compute the address of the numbers of the dense operand
 * that have the same k.
 *
 * There are two methods: `sparseWindows` for a sparse A and `sparseColumns` for a sparse B. A
 * method returns false if it cannot compute the matmul. The dense code then computes all of C
 * again, including elements that the method has already written.
 */
import {
  bf16,
  clearRange,
  leavesNormalRange,
  lhsDepth,
  multiplyAdd,
  needsCare,
  packColumns,
  rhsDepth,
  roundStretch,
  widenRange,
} from './gemm';
import { ENTRIES, LISTED_WORDS, PIECES, ROW_NUMBERS, SPARSE_RANGES, STAGE, STARTS, STRIPS, TILE, TURNED, UNUSED } from './gemm-workspace';

/**
 * Width of a strip (a packed part of the dense operand), in rows or columns. The 32 sums of a strip
 * are computed together and stay in eight registers of four sums each.
 */
const STRIP: i32 = 32;
const STRIP_BYTES: usize = STRIP * 4;
/** Smallest number of multiply-adds of a matmul for which a search for zeros saves time. */
const LEAST_WORK: f64 = 1_000_000;
/**
 * Largest number of nonzero samples of a sparse operand, for the left and for the right operand.
 * The kernel samples 256 values of each operand. If more of them are nonzero, the dense code is
 * faster than skipping zeros. [measured]
 */
const MOST_NONZERO_LEFT: i32 = 112;
const MOST_NONZERO_RIGHT: i32 = 80;
const MOST_ROWS: i32 = 1024;
const MOST_PIECES: i32 = 1024;
/**
 * Limits of the part of the dense operand that `packStrips` packs at a time. `MOST_STRIP_WORDS` is
 * the largest size of the part, in words: the size of the buffer STRIPS. `MOST_DEPTH` is its
 * largest depth: `packStrips` packs eight rows or columns, over their whole depth, into the buffer
 * STAGE, which has `LISTED_WORDS` words.
 */
const MOST_STRIP_WORDS: i32 = 196_608;
const MOST_DEPTH: i32 = LISTED_WORDS / 8;
/**
 * Size of a block of a sparse B: number of columns and depth. The kernel lists the nonzero values
 * of B block by block. A block has `LISTED_WORDS` words.
 */
const LISTED_COLUMNS: i32 = 64;
const LISTED_DEPTH: i32 = 384;
const MOST_STRIP_LANES: i32 = MOST_STRIP_WORDS / LISTED_DEPTH;

/**
 * Computes C and skips the zeros of A or of B. Returns false if the dense code must compute C
 * instead. This is so in four cases: the multiplicands are not bf16; the matmul is small; the
 * samples of both operands have too few zeros; neither method can handle the operands.
 */
export function sparseMatmul(
  m: i32,
  n: i32,
  depth: i32,
  lhs: usize,
  rowTable: usize,
  rhs: usize,
  columnTable: usize,
  c: usize,
  stride: usize,
  workspace: usize,
): bool {
  if (!bf16 || <f64>m * <f64>n * <f64>depth < LEAST_WORK) return false;
  const left = nonzeros(m, depth, lhs, rowTable, lhsDepth);
  const right = nonzeros(n, depth, rhs, columnTable, rhsDepth);
  if (left <= MOST_NONZERO_LEFT && left <= right * 2) {
    if (sparseWindows(m, n, depth, lhs, rowTable, rhs, columnTable, c, stride, workspace)) return true;
  }
  if (right > MOST_NONZERO_RIGHT) return false;
  return sparseColumns(m, n, depth, lhs, rowTable, rhs, columnTable, c, stride, workspace);
}

/**
 * Reads 256 sample values that are spread over the operand. Returns how many of them are nonzero.
 */
function nonzeros(lanes: i32, depth: i32, from: usize, table: usize, steps: usize): i32 {
  let count = 0;
  for (let i: u32 = 0; i < 256; i++) {
    const lane = ((i * 0x9e37_79b1) >>> 16) % <u32>lanes;
    const step = ((i * 0x85eb_ca6b) >>> 16) % <u32>depth;
    const offset = load<i32>(table + (<usize>lane << 2)) + load<i32>(steps + (<usize>step << 2));
    count += load<u32>(from + ((<usize>offset) << 2)) << 1 != 0 ? 1 : 0;
  }
  return count;
}

// ------------------------------------------------------------------- A is sparse: windows of rows

/**
 * Computes C for a sparse A. The function takes many rows of A at a time, and makes one list of the
 * nonzero values in the memory that these rows cover. One list for many rows saves work, because
 * the rows overlap in memory: in a convolution, each row of A is one window of the input. A single
 * row consists of a few contiguous ranges of memory, called pieces. The nonzero values of a piece
 * are contiguous in the list. B is packed in strips of 32 columns.
 */
function sparseWindows(
  m: i32,
  n: i32,
  depth: i32,
  lhs: usize,
  rowTable: usize,
  rhs: usize,
  columnTable: usize,
  c: usize,
  stride: usize,
  workspace: usize,
): bool {
  if (n % STRIP != 0 || depth > MOST_DEPTH || n * depth > MOST_STRIP_WORDS) return false;
  const pieces = workspace + PIECES;
  if (!cutPieces(depth, pieces)) return false;
  const dense = workspace + SPARSE_RANGES + 8;
  if (!packStrips(n, depth, rhs, columnTable, rhsDepth, workspace)) return false;
  const depthLow = least(lhsDepth, depth);
  const depthHigh = greatest(lhsDepth, depth);
  for (let i = 0; i < m; ) {
    const rows = rowTable + ((<usize>i) << 2);
    const height = rowsWithin(rows, m - i, LISTED_WORDS - (depthHigh - depthLow) - 1);
    const first = least(rows, height) + depthLow;
    const count = greatest(rows, height) + depthHigh - first + 1;
    if (count > LISTED_WORDS || count > height * depth) return false;
    if (!listStretch(lhs, first, count, workspace)) return false;
    if (leavesNormalRange(workspace + SPARSE_RANGES, dense)) return false;
    const starts = workspace + STARTS - ((<usize>first) << 2);
    let piece = pieces;
    for (let q = 0; q < depth; q += TILE) {
      let end = piece;
      while (load<i32>(end, 12) == q / TILE) end += 16;
      let strip = workspace + STRIPS;
      for (let j = 0; j < n; j += STRIP) {
        const to = c + <usize>i * stride + ((<usize>j) << 2);
        sumRows(height, rows, starts, STRIP_BYTES, piece, end, strip, to, stride, q > 0, workspace + UNUSED);
        strip += <usize>depth * STRIP_BYTES;
      }
      piece = end;
    }
    i += height;
  }
  return true;
}

/**
 * Cuts a row of A into pieces; all rows have the same pieces. A piece is a range of the depth whose
 * words are adjacent in memory and belong to the same tile. Returns false if there are too many
 * pieces. Writes four words for each piece to `to`:
 *
 * 1. The byte offset of the first word of the piece, from the start of a row of A.
 * 2. The byte offset of the first word after the piece, from the start of a row of A.
 * 3. The number 128·(k − e). Here k is the depth of an element of the piece, and e is the distance,
 *    in words, from the start of a row of A to the element. The number is the same for all elements
 *    of the piece.
 * 4. The index of the tile; −1 after the last piece.
 *
 * `sumRows` uses the first two offsets also in the buffer STARTS, which `listStretch` writes,
 * because STARTS has one word for each word of A.
 *
 * `sumRows` uses the third word to find row k of a strip of B, which has the byte offset 128·k in
 * the strip. Let r be the distance, in words, from the start of A to the start of row m. The list
 * entry of A(m,k) has the position 128·(r + e). So 128·k = position + third word − 128·r.
 */
function cutPieces(depth: i32, to: usize): bool {
  let count = 0;
  for (let k = 0; k < depth; ) {
    if (++count > MOST_PIECES || count * 8 > k + 64) return false;
    const offset = load<i32>(lhsDepth + ((<usize>k) << 2));
    const tile = k / TILE;
    let length = 1;
    while (k + length < min(depth, (tile + 1) * TILE)) {
      if (load<i32>(lhsDepth + ((<usize>(k + length)) << 2)) != offset + length) break;
      length++;
    }
    store<i32>(to, offset << 2);
    store<i32>(to, (offset + length) << 2, 4);
    store<i32>(to, (k - offset) * <i32>STRIP_BYTES, 8);
    store<i32>(to, tile, 12);
    to += 16;
    k += length;
  }
  store<i32>(to, -1, 12);
  return true;
}

/**
 * Returns the number of consecutive rows of A that can be taken together. `table` has the offsets
 * of the rows, in words; the first row to take is at `table`. The offsets of all rows that are
 * taken must differ by at most `span` words. The result is at least 1 and at most min(`count`,
 * MOST_ROWS).
 */
function rowsWithin(table: usize, count: i32, span: i32): i32 {
  let low = load<i32>(table);
  let high = low;
  let i = 1;
  for (; i < min(count, MOST_ROWS); i++) {
    const offset = load<i32>(table + ((<usize>i) << 2));
    low = min(low, offset);
    high = max(high, offset);
    if (high - low > span) break;
  }
  return i;
}

/**
 * Lists the nonzero values among `count` words of A, from word `first` on: writes the list to the
 * buffer ENTRIES. For each of the `count` words, writes to the buffer STARTS the address of a list
 * entry: that of the word or, if the word is zero, that of the next nonzero word. Returns false if
 * a word is NaN or subnormal, because the fast rounding to bf16 is wrong for such words.
 */
function listStretch(lhs: usize, first: i32, count: i32, workspace: usize): bool {
  const range = workspace + SPARSE_RANGES;
  let from = workspace + STAGE;
  roundStretch(from, lhs + ((<usize>first) << 2), count);
  if (needsCare()) return false;
  clearRange(range);
  widenRange(range, true);
  let start = workspace + STARTS;
  let entry = workspace + ENTRIES;
  let place = <u32>first * <u32>STRIP_BYTES;
  for (let i = 0; i < count; i++) {
    const bits = load<u32>(from);
    store<u32>(start, <u32>entry);
    store<u64>(entry, <u64>bits | (<u64>place << 32));
    entry += <usize>(bits << 1 != 0) << 3;
    place += <u32>STRIP_BYTES;
    from += 4;
    start += 4;
  }
  store<u32>(start, <u32>entry);
  return true;
}

// --------------------------------------------------------------------- B is sparse: Cᵀ = Bᵀ · Aᵀ

/**
 * Computes C for a sparse B. The function lists the nonzero values of B, 64 columns at a time, and
 * packs A in strips of 32 rows. It computes blocks of the transpose of C, and transposes each
 * complete block into C.
 */
function sparseColumns(
  m: i32,
  n: i32,
  depth: i32,
  lhs: usize,
  rowTable: usize,
  rhs: usize,
  columnTable: usize,
  c: usize,
  stride: usize,
  workspace: usize,
): bool {
  if (m % STRIP != 0 || m > MOST_STRIP_LANES) return false;
  const turnedStride = (<usize>m) << 2;
  const range = workspace + SPARSE_RANGES;
  const piece = workspace + PIECES;
  for (let j = 0; j < n; j += LISTED_COLUMNS) {
    const width = min(LISTED_COLUMNS, n - j);
    const columns = columnTable + ((<usize>j) << 2);
    for (let q = 0; q < depth; q += LISTED_DEPTH) {
      const length = min(LISTED_DEPTH, depth - q);
      const lhsSteps = lhsDepth + ((<usize>q) << 2);
      listColumns(width, length, rhs, columns, rhsDepth + ((<usize>q) << 2), workspace);
      if (!packStrips(m, length, lhs, rowTable, lhsSteps, workspace)) return false;
      if (leavesNormalRange(range, range + 8)) return false;
      for (let t = 0; t * TILE < length; t++) {
        store<i32>(piece, t << 2);
        store<i32>(piece, (t + 1) << 2, 4);
        store<i32>(piece, 0, 8);
        let strip = workspace + STRIPS;
        let to = workspace + TURNED;
        for (let i = 0; i < m; i += STRIP) {
          const rows = workspace + ROW_NUMBERS;
          const add = q + t > 0;
          sumRows(width, rows, workspace + STARTS, 0, piece, piece + 16, strip, to, turnedStride, add, workspace + UNUSED);
          strip += <usize>length * STRIP_BYTES;
          to += STRIP_BYTES;
        }
      }
    }
    turnBack(m, width, workspace + TURNED, c + ((<usize>j) << 2), stride);
  }
  return true;
}

/**
 * Writes a list of the nonzero values of a block of B to the buffer ENTRIES. The list goes through
 * the block column by column, and through each column tile by tile. For each tile of each column,
 * in the same order, the function writes the address of the tile's first list entry to the buffer
 * STARTS.
 */
function listColumns(
  width: i32,
  length: i32,
  rhs: usize,
  table: usize,
  steps: usize,
  workspace: usize,
): void {
  const panel = workspace + STAGE;
  const range = workspace + SPARSE_RANGES;
  const tiles = (length + TILE - 1) / TILE;
  let start = workspace + STARTS;
  let entry = workspace + ENTRIES;
  clearRange(range);
  for (let j = 0; j < width; j++) {
    if (j % 8 == 0) {
      packColumns(panel, rhs, table + ((<usize>j) << 2), min(8, width - j), steps, length, range);
    }
    store<i32>(workspace + ROW_NUMBERS + ((<usize>j) << 2), j * tiles);
    let from = panel + ((<usize>(j % 8)) << 2);
    let place: u32 = 0;
    for (let t = 0; t < length; t += TILE) {
      store<u32>(start, <u32>entry);
      start += 4;
      for (let k = min(TILE, length - t); k > 0; k--) {
        const bits = load<u32>(from);
        store<u64>(entry, <u64>bits | (<u64>place << 32));
        entry += <usize>(bits << 1 != 0) << 3;
        from += 32;
        place += <u32>STRIP_BYTES;
      }
    }
  }
  store<u32>(start, <u32>entry);
}

/** Transposes the block `turned`, which is [width, m], into C[m, width]. m is a multiple of 4. */
function turnBack(m: i32, width: i32, turned: usize, c: usize, stride: usize): void {
  const from = (<usize>m) << 2;
  for (let j = 0; j < width; j += 4) {
    let to = c + ((<usize>j) << 2);
    let at = turned + <usize>j * from;
    if (j + 4 > width) {
      for (let i = 0; i < m; i++) {
        for (let l = 0; l < width - j; l++) {
          store<f32>(to + ((<usize>l) << 2), load<f32>(at + <usize>l * from));
        }
        to += stride;
        at += 4;
      }
      return;
    }
    for (let i = 0; i < m; i += 4) {
      const x0 = v128.load(at);
      const x1 = v128.load(at + from);
      const x2 = v128.load(at + from * 2);
      const x3 = v128.load(at + from * 3);
      const y0 = i32x4.shuffle(x0, x1, 0, 4, 1, 5);
      const y1 = i32x4.shuffle(x0, x1, 2, 6, 3, 7);
      const y2 = i32x4.shuffle(x2, x3, 0, 4, 1, 5);
      const y3 = i32x4.shuffle(x2, x3, 2, 6, 3, 7);
      v128.store(to, i64x2.shuffle(y0, y2, 0, 2));
      v128.store(to + stride, i64x2.shuffle(y0, y2, 1, 3));
      v128.store(to + stride * 2, i64x2.shuffle(y1, y3, 0, 2));
      v128.store(to + stride * 3, i64x2.shuffle(y1, y3, 1, 3));
      to += stride * 4;
      at += 16;
    }
  }
}

// ----------------------------------------------------------------------------------- both methods

/**
 * Computes the sums of one tile for one strip and `height` rows of the sparse operand (A or Bᵀ): 32
 * sums for each row. A sum adds the products of the row's nonzero values in the pieces from
 * `pieces` to `piecesEnd` (see `cutPieces`).
 *
 * A list entry has a value and a position. The function multiplies the value by the 32 numbers of
 * the strip that have the same depth as the value. The byte offset of these numbers in the strip
 * is: position + third word of the piece (see `cutPieces`) − `perRow` · entry of `rows` for the
 * row. If positions count from the start of the sparse operand, `perRow` is 128; if they count from
 * the start of the row, `perRow` is 0.
 *
 * The inner loop also stores two of the sums to `unused`, which is never read. The stores force the
 * JavaScript engine to compute these sums before it loads more vectors. Without the stores, the
 * engine loads all eight vectors first, runs out of registers, and is 1.6 times slower.
 */
function sumRows(
  height: i32,
  rows: usize,
  starts: usize,
  perRow: usize,
  pieces: usize,
  piecesEnd: usize,
  strip: usize,
  c: usize,
  stride: usize,
  add: bool,
  unused: usize,
): void {
  const rowsEnd = rows + ((<usize>height) << 2);
  while (rows < rowsEnd) {
    const offset = <usize>load<i32>(rows);
    const from = starts + (offset << 2);
    const base = strip - offset * perRow;
    let c0 = i32x4.splat(0);
    let c1 = i32x4.splat(0);
    let c2 = i32x4.splat(0);
    let c3 = i32x4.splat(0);
    let c4 = i32x4.splat(0);
    let c5 = i32x4.splat(0);
    let c6 = i32x4.splat(0);
    let c7 = i32x4.splat(0);
    for (let piece = pieces; piece < piecesEnd; piece += 16) {
      let entry = <usize>load<u32>(from + <usize>load<i32>(piece));
      const end = <usize>load<u32>(from + <usize>load<i32>(piece, 4));
      const shifted = base + <usize>load<i32>(piece, 8);
      while (entry < end) {
        const x = v128.load32_splat(entry);
        const b = shifted + <usize>load<u32>(entry, 4);
        entry += 8;
        c0 = multiplyAdd(x, v128.load(b), c0);
        c1 = multiplyAdd(x, v128.load(b, 16), c1);
        v128.store32_lane(unused, c0, 0);
        v128.store32_lane(unused, c1, 0, 16);
        c2 = multiplyAdd(x, v128.load(b, 32), c2);
        c3 = multiplyAdd(x, v128.load(b, 48), c3);
        c4 = multiplyAdd(x, v128.load(b, 64), c4);
        c5 = multiplyAdd(x, v128.load(b, 80), c5);
        c6 = multiplyAdd(x, v128.load(b, 96), c6);
        c7 = multiplyAdd(x, v128.load(b, 112), c7);
      }
    }
    if (add) {
      c0 = f32x4.add(v128.load(c), c0);
      c1 = f32x4.add(v128.load(c, 16), c1);
      c2 = f32x4.add(v128.load(c, 32), c2);
      c3 = f32x4.add(v128.load(c, 48), c3);
      c4 = f32x4.add(v128.load(c, 64), c4);
      c5 = f32x4.add(v128.load(c, 80), c5);
      c6 = f32x4.add(v128.load(c, 96), c6);
      c7 = f32x4.add(v128.load(c, 112), c7);
    }
    v128.store(c, c0);
    v128.store(c, c1, 16);
    v128.store(c, c2, 32);
    v128.store(c, c3, 48);
    v128.store(c, c4, 64);
    v128.store(c, c5, 80);
    v128.store(c, c6, 96);
    v128.store(c, c7, 112);
    c += stride;
    rows += 4;
  }
}

/**
 * Rounds the dense operand to bf16 and packs it in strips of 32 lanes. A lane is a row of A or a
 * column of B. A strip is an array [depth, 32]. Returns false if the operand contains an infinity
 * or a NaN.
 */
function packStrips(
  lanes: i32,
  depth: i32,
  from: usize,
  table: usize,
  steps: usize,
  workspace: usize,
): bool {
  const range = workspace + SPARSE_RANGES + 8;
  const panel = workspace + STAGE;
  clearRange(range);
  for (let j = 0; j < lanes; j += 8) {
    packColumns(panel, from, table + ((<usize>j) << 2), 8, steps, depth, range);
    const strip = workspace + STRIPS + <usize>(j / STRIP) * <usize>depth * STRIP_BYTES;
    let to = strip + ((<usize>(j % STRIP)) << 2);
    for (let at = panel; at < panel + ((<usize>depth) << 5); at += 32) {
      v128.store(to, v128.load(at));
      v128.store(to, v128.load(at, 16), 16);
      to += STRIP_BYTES;
    }
  }
  return load<i32>(range, 4) < 255;
}

function least(table: usize, count: i32): i32 {
  let low = load<i32>(table);
  for (let i = 1; i < count; i++) low = min(low, load<i32>(table + ((<usize>i) << 2)));
  return low;
}

function greatest(table: usize, count: i32): i32 {
  let high = load<i32>(table);
  for (let i = 1; i < count; i++) high = max(high, load<i32>(table + ((<usize>i) << 2)));
  return high;
}
