/**
 * Matmuls with one operand that is mostly zeros, such as the output of a ReLU or the gradient of a
 * max pooling.
 *
 * Multiplications by zero are skipped. This changes no bits: a sum that starts from +0 is never −0,
 * so adding ±0 does not change it, and the dense operand is checked to be finite (0 · ∞ is NaN).
 * The nonzero values of the sparse operand are listed in the order of the depth, each with the
 * position of its row in the dense operand. A row of 32 sums stays in registers while its list is
 * processed.
 *
 * There are two methods, `sparseWindows` and `sparseColumns`. A method returns false if it cannot
 * compute the matmul, and may have written to C before; the dense code then computes all of C.
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

/** Number of sums in a row that stays in registers: eight registers of four. */
const STRIP: i32 = 32;
const STRIP_BYTES: usize = STRIP * 4;
/** Smallest number of multiply-adds for which the search for zeros is worth its time. */
const LEAST_WORK: f64 = 1_000_000;
/**
 * Largest number of nonzero values among 256 samples for which skipping zeros is faster. [measured]
 */
const MOST_NONZERO_LEFT: i32 = 112;
const MOST_NONZERO_RIGHT: i32 = 80;
const MOST_ROWS: i32 = 1024;
const MOST_PIECES: i32 = 1024;
/**
 * Limits of the packed dense operand: words in all strips, and depth of the panel that fills them.
 */
const MOST_STRIP_WORDS: i32 = 196_608;
const MOST_DEPTH: i32 = LISTED_WORDS / 8;
/** Columns of B that are listed together, and their depth. Their product is `LISTED_WORDS`. */
const LISTED_COLUMNS: i32 = 64;
const LISTED_DEPTH: i32 = 384;
const MOST_STRIP_LANES: i32 = MOST_STRIP_WORDS / LISTED_DEPTH;

/**
 * Computes C and skips the zeros of A or of B. Samples both operands first. Returns false if the
 * dense code has to compute C: too few zeros, too little work, or an operand that no method can
 * handle.
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

/** Samples 256 values, spread over an operand, and returns the number of nonzero ones. */
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
 * Computes C for a sparse A. In a convolution, the windows of many rows of A overlap in one stretch
 * of memory. The nonzero values of such a stretch are listed once, and a row consists of a few
 * pieces of that list. B is packed in strips of 32 columns.
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
 * Cuts the depth into pieces: runs of consecutive words of A within one tile. Writes four words for
 * each piece: the byte offsets into STARTS of its first word and of the word after its last, the
 * distance in bytes from its position in A to its row in the strip of B, and its tile. A piece with
 * tile −1 ends the list. Returns false if there are too many pieces.
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
 * Returns the number of rows, from the first of `table` on, that lie within `span` words: at least
 * 1.
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
 * Lists the nonzero values of `count` words of A, starting with word `first`. STARTS receives, for
 * each word, the address of the first entry at or after that word. Returns false if a word needs
 * the slow rounding (see `needsCare`).
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
 * Computes C for a sparse B. The nonzero values of B are listed, 64 columns at a time. A is packed
 * in strips of 32 rows. The sums form the transpose of C and are transposed at the end.
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
 * Lists the nonzero values of each column, tile by tile. STARTS receives the address of the first
 * entry of each tile: `tiles` addresses for a column, then those of the next column.
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

/** Writes C[m, width] from its transpose in `turned`. m is a multiple of 4. */
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
 * Computes one tile of `height` rows of 32 sums. For each of its pieces, a row processes the
 * entries from the piece's first start to its last start. `perRow` is the distance in bytes that
 * the dense rows shift for each word of a row's offset.
 *
 * Each turn of the inner loop stores two sums to `unused`. The stores force the JavaScript engine
 * to compute these sums before it loads the other vectors. Without them, the engine loads all eight
 * vectors first, runs out of registers for the sums, and is 1.6 times slower.
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
 * Rounds the dense operand and packs it as strips [depth, 32]. Returns false if it is not finite.
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
