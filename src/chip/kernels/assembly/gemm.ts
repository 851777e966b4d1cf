/**
 * Matmul of the fast MXU on f32 data in memory. One thread runs one call at a time.
 *
 * C(m,n) = Σ_k A(m,k)·B(k,n). The products p0, p1, … are taken in ascending order of the depth k
 * and are cut into tiles of 128 products. The sum of a tile is ((0+p0)+p1)+…. The sums t0, t1, … of
 * the tiles are added as ((t0+t1)+t2)+…. A call may add several matmuls (segments); their results
 * s0, s1, … are added as ((s0+s1)+s2)+…. A product whose exact magnitude is below 2^-126 counts as
 * +0. A product that is too large for f32 counts as infinity.
 *
 * Both operands are copied (packed) into panels before they are multiplied, so that the inner loop
 * reads memory sequentially [Goto & van de Geijn, ACM TOMS 34(3) 2008]. A panel has ROWS rows of A
 * or COLUMNS columns of B. In a panel, all numbers of the same depth are adjacent. Packing rounds
 * the multiplicands to bf16 if the call asks for it, and records the range of exponents of each
 * panel. If the products of two panels could leave the normal range of f32, the slower function
 * `multiplyTileExactly` multiplies the panels.
 */
import { FUSED, ROWS } from './config';
import { sparseMatmul } from './gemm-sparse';
import {
  COLUMN_BLOCK,
  COLUMN_RANGES,
  COLUMNS,
  DEPTH_BLOCK,
  EDGE,
  PACKED_COLUMNS,
  PACKED_ROWS,
  ROW_BLOCK,
  ROW_RANGES,
  STAGE,
  STAGE_WORDS,
  TILE,
  TOTAL,
  TOTAL_COLUMNS,
  TOTAL_ROWS,
  WORKSPACE,
} from './gemm-workspace';

const SIGN_OFF: i32 = 0x7fff_ffff;
const INFINITY_BITS: u32 = 0x7f80_0000;
const SMALLEST_NORMAL_BITS: u32 = 0x0080_0000;
const SMALLEST_NORMAL: f32 = 1.1754943508222875e-38;
/**
 * Value that is recorded as the lowest exponent of a panel (packed rows or columns) that has only
 * zeros. The value is so high that no product of the panel counts as an underflow.
 */
const NO_EXPONENT: i32 = 1024;
/**
 * Value that is recorded as the lowest exponent of a panel that has a subnormal number. The value
 * is so low that every product of the panel counts as a possible underflow.
 */
const SUBNORMAL_EXPONENT: i32 = -1024;

// Arguments of the current call. They can be globals, because one thread runs one call at a time.
let workspace: usize = 0;
export let bf16: bool = false;
export let lhsDepth: usize = 0;
export let rhsDepth: usize = 0;
let lhsSegment: usize = 0;
let rhsSegment: usize = 0;
/**
 * Depth of one tile. If the call has several segments, each of depth 128 or less, every segment is
 * one tile, so this is the depth of a segment. Otherwise it is 128.
 */
let tileDepth: i32 = 0;
/**
 * Depth of the blocks of A and B that the kernel packs and multiplies one after another. The depth
 * is a multiple of `tileDepth`.
 */
let blockDepth: i32 = 0;
let segmented: bool = false;
/**
 * Smallest (`depthLow`) and largest (`depthHigh`) entry of the table `lhsDepth` among the depths of
 * the current block. Entry k of the table is the distance, in elements, from the start of a row of
 * A to the element of the row at depth k.
 */
let depthLow: i32 = 0;
let depthHigh: i32 = 0;

/** Returns the size, in bytes, of the scratch memory that `gemm` needs at `workspaceAddress`. */
export function workspaceBytes(): usize {
  return WORKSPACE;
}

/**
 * Runs one call of the MXU; the parameters are the fields of `MxuCall` in mxu.ts. Entries of tables
 * are offsets in elements. Addresses and strides are in bytes.
 */
export function gemm(
  m: i32,
  n: i32,
  k: i32,
  lhs: usize,
  rowTable: usize,
  lhsDepthTable: usize,
  rhs: usize,
  rhsDepthTable: usize,
  columnTable: usize,
  c: usize,
  segments: i32,
  lhsSegmentStride: usize,
  rhsSegmentStride: usize,
  roundToBf16: bool,
  workspaceAddress: usize,
): void {
  workspace = workspaceAddress;
  bf16 = roundToBf16;
  lhsDepth = lhsDepthTable;
  rhsDepth = rhsDepthTable;
  lhsSegment = lhsSegmentStride;
  rhsSegment = rhsSegmentStride;
  segmented = segments > 1 && k <= TILE;
  tileDepth = segmented ? k : TILE;
  blockDepth = segmented ? (DEPTH_BLOCK / k) * k : DEPTH_BLOCK;
  const stride = (<usize>n) << 2;
  if (segments > 1 && !segmented) {
    sumOfDeepSegments(m, n, k, lhs, rowTable, rhs, columnTable, c, stride, segments);
  } else {
    matmul(m, n, k * segments, lhs, rowTable, rhs, columnTable, c, stride);
  }
}

/**
 * Adds the matmuls of a call that has several segments with several tiles each. The first segment
 * is computed directly in C. Every other segment is computed in the workspace, block by block, and
 * each block is then added to C.
 */
function sumOfDeepSegments(
  m: i32,
  n: i32,
  k: i32,
  lhs: usize,
  rowTable: usize,
  rhs: usize,
  columnTable: usize,
  c: usize,
  stride: usize,
  segments: i32,
): void {
  matmul(m, n, k, lhs, rowTable, rhs, columnTable, c, stride);
  const total = workspace + TOTAL;
  for (let j = 0; j < n; j += TOTAL_COLUMNS) {
    const width = min(TOTAL_COLUMNS, n - j);
    const columns = columnTable + ((<usize>j) << 2);
    for (let i = 0; i < m; i += TOTAL_ROWS) {
      const height = min(TOTAL_ROWS, m - i);
      const rows = rowTable + ((<usize>i) << 2);
      const to = c + <usize>i * stride + ((<usize>j) << 2);
      let a = lhs;
      let b = rhs;
      for (let s = 1; s < segments; s++) {
        a += lhsSegment;
        b += rhsSegment;
        matmul(height, width, k, a, rows, b, columns, total, (<usize>width) << 2);
        addBlock(to, stride, total, height, width);
      }
    }
  }
}

/** Adds a dense block of `height` × `width` floats to C. */
function addBlock(c: usize, stride: usize, from: usize, height: i32, width: i32): void {
  for (let i = 0; i < height; i++) {
    let j = 0;
    for (; j + 4 <= width; j += 4) {
      const at = c + ((<usize>j) << 2);
      v128.store(at, f32x4.add(v128.load(at), v128.load(from)));
      from += 16;
    }
    for (; j < width; j++) {
      const at = c + ((<usize>j) << 2);
      store<f32>(at, load<f32>(at) + load<f32>(from));
      from += 4;
    }
    c += stride;
  }
}

/** Computes C as the sum of all tiles over the whole depth. */
function matmul(
  m: i32,
  n: i32,
  depth: i32,
  lhs: usize,
  rowTable: usize,
  rhs: usize,
  columnTable: usize,
  c: usize,
  stride: usize,
): void {
  if (!segmented) {
    if (sparseMatmul(m, n, depth, lhs, rowTable, rhs, columnTable, c, stride, workspace)) return;
  }
  for (let j = 0; j < n; j += COLUMN_BLOCK) {
    const width = min(COLUMN_BLOCK, n - j);
    for (let q = 0; q < depth; q += blockDepth) {
      const length = min(blockDepth, depth - q);
      packColumnBlock(rhs, columnTable + ((<usize>j) << 2), width, q, length);
      if (!segmented) noteDepths(lhsDepth + ((<usize>q) << 2), length);
      for (let i = 0; i < m; i += ROW_BLOCK) {
        const height = min(ROW_BLOCK, m - i);
        packRowBlock(lhs, rowTable + ((<usize>i) << 2), height, q, length);
        const to = c + <usize>i * stride + ((<usize>j) << 2);
        multiplyBlock(height, width, length, to, stride, q > 0);
      }
    }
  }
}

// ---------------------------------------------------------------------------------- multiplying

function multiplyBlock(
  height: i32,
  width: i32,
  length: i32,
  c: usize,
  stride: usize,
  add: bool,
): void {
  // If the block of columns is small, the whole block stays in the level 1 cache, so the inner loop
  // runs over the columns. Otherwise the inner loop runs over the rows, and only one panel of
  // columns stays in the level 1 cache.
  if (width * length <= 4096) {
    for (let i = 0; i < height; i += ROWS) {
      for (let j = 0; j < width; j += COLUMNS) {
        multiplyPanels(i, j, height, width, length, c, stride, add);
      }
    }
  } else {
    for (let j = 0; j < width; j += COLUMNS) {
      for (let i = 0; i < height; i += ROWS) {
        multiplyPanels(i, j, height, width, length, c, stride, add);
      }
    }
  }
}

/**
 * Multiplies the panel of A at row `i` by the panel of B at column `j`, and stores the result in C
 * or adds it to C. Rows and columns count from the start of the current block.
 */
function multiplyPanels(
  i: i32,
  j: i32,
  height: i32,
  width: i32,
  length: i32,
  c: usize,
  stride: usize,
  add: bool,
): void {
  const a = workspace + PACKED_ROWS + ((<usize>(i * length)) << 2);
  const b = workspace + PACKED_COLUMNS + ((<usize>(j * length)) << 2);
  const at = c + <usize>i * stride + ((<usize>j) << 2);
  const exact = leavesNormalRange(
    workspace + ROW_RANGES + ((<usize>(i / ROWS)) << 3),
    workspace + COLUMN_RANGES + ((<usize>(j / COLUMNS)) << 3),
  );
  if (i + ROWS <= height && j + COLUMNS <= width) {
    if (!exact) addTiles(length, a, b, at, stride, add);
    else addTilesExactly(length, a, b, at, stride, add);
    return;
  }
  const edge = workspace + EDGE;
  const h = min(ROWS, height - i);
  const w = min(COLUMNS, width - j);
  if (add) copyEdge(edge, COLUMNS * 4, at, stride, h, w);
  if (!exact) addTiles(length, a, b, edge, COLUMNS * 4, add);
  else addTilesExactly(length, a, b, edge, COLUMNS * 4, add);
  copyEdge(at, stride, edge, COLUMNS * 4, h, w);
}

/**
 * True if `multiplyTileExactly` must multiply two panels. `a` and `b` are the addresses of the
 * ranges of exponents of the two panels. There are two reasons. A product could underflow. Or a
 * product could overflow to infinity, and a fused multiply-add, which does not round the product,
 * would still return a finite sum.
 */
// @ts-ignore: decorator
@inline
export function leavesNormalRange(a: usize, b: usize): bool {
  if (load<i32>(a) + load<i32>(b) < 128) return true;
  return FUSED ? load<i32>(a, 4) + load<i32>(b, 4) > 380 : false;
}

function copyEdge(to: usize, toStride: usize, from: usize, stride: usize, h: i32, w: i32): void {
  for (let i = 0; i < h; i++) {
    for (let j = 0; j < w; j++) {
      store<f32>(to + ((<usize>j) << 2), load<f32>(from + ((<usize>j) << 2)));
    }
    to += toStride;
    from += stride;
  }
}

// @ts-ignore: decorator
@inline
function addTiles(length: i32, a: usize, b: usize, c: usize, stride: usize, add: bool): void {
  for (let q = 0; q < length; q += tileDepth) {
    const depth = min(tileDepth, length - q);
    multiplyTile(depth, a, b, c, stride, add);
    a += <usize>(depth * ROWS * 4);
    b += <usize>(depth * COLUMNS * 4);
    add = true;
  }
}

function addTilesExactly(
  length: i32,
  a: usize,
  b: usize,
  c: usize,
  stride: usize,
  add: bool,
): void {
  for (let q = 0; q < length; q += tileDepth) {
    const depth = min(tileDepth, length - q);
    multiplyTileExactly(depth, a, b, c, stride, add);
    a += <usize>(depth * ROWS * 4);
    b += <usize>(depth * COLUMNS * 4);
    add = true;
  }
}

/**
 * Computes sum + a·b. With a fused multiply-add there is one rounding, otherwise two. The results
 * are bit-identical, because the product of two bf16 in the normal range is exact in f32.
 */
// @ts-ignore: decorator
@inline
export function multiplyAdd(a: v128, b: v128, sum: v128): v128 {
  return FUSED ? f32x4.relaxed_madd(a, b, sum) : f32x4.add(sum, f32x4.mul(a, b));
}

/**
 * Computes ROWS×8 sums of C, each over one tile of the depth. All these sums stay in registers.
 * With fused multiply-adds, ROWS is 6 and the sums take 12 of 16 registers. Without fused
 * multiply-adds, ROWS is 5 and the sums take 10 registers, because the product needs a register
 * too. The loop over the depth is not unrolled: if it is unrolled by 2 or 4, the JavaScript engine
 * regroups the multiply-adds into dependent chains, which are slower. [measured]
 */
function multiplyTile(depth: i32, a: usize, b: usize, c: usize, stride: usize, add: bool): void {
  let c00 = i32x4.splat(0);
  let c01 = i32x4.splat(0);
  let c10 = i32x4.splat(0);
  let c11 = i32x4.splat(0);
  let c20 = i32x4.splat(0);
  let c21 = i32x4.splat(0);
  let c30 = i32x4.splat(0);
  let c31 = i32x4.splat(0);
  let c40 = i32x4.splat(0);
  let c41 = i32x4.splat(0);
  let c50 = i32x4.splat(0);
  let c51 = i32x4.splat(0);
  while (depth > 0) {
    const b0 = v128.load(b);
    const b1 = v128.load(b, 16);
    let x = v128.load32_splat(a);
    c00 = multiplyAdd(x, b0, c00);
    c01 = multiplyAdd(x, b1, c01);
    x = v128.load32_splat(a, 4);
    c10 = multiplyAdd(x, b0, c10);
    c11 = multiplyAdd(x, b1, c11);
    x = v128.load32_splat(a, 8);
    c20 = multiplyAdd(x, b0, c20);
    c21 = multiplyAdd(x, b1, c21);
    x = v128.load32_splat(a, 12);
    c30 = multiplyAdd(x, b0, c30);
    c31 = multiplyAdd(x, b1, c31);
    x = v128.load32_splat(a, 16);
    c40 = multiplyAdd(x, b0, c40);
    c41 = multiplyAdd(x, b1, c41);
    if (ROWS == 6) {
      x = v128.load32_splat(a, 20);
      c50 = multiplyAdd(x, b0, c50);
      c51 = multiplyAdd(x, b1, c51);
    }
    a += ROWS * 4;
    b += COLUMNS * 4;
    depth--;
  }
  // There is a single branch for all rows. With a branch for each row, the engine would keep the
  // sums in memory and not in registers.
  if (add) {
    addRow(c, c00, c01);
    c += stride;
    addRow(c, c10, c11);
    c += stride;
    addRow(c, c20, c21);
    c += stride;
    addRow(c, c30, c31);
    c += stride;
    addRow(c, c40, c41);
    if (ROWS == 6) addRow(c + stride, c50, c51);
  } else {
    putRow(c, c00, c01);
    c += stride;
    putRow(c, c10, c11);
    c += stride;
    putRow(c, c20, c21);
    c += stride;
    putRow(c, c30, c31);
    c += stride;
    putRow(c, c40, c41);
    if (ROWS == 6) putRow(c + stride, c50, c51);
  }
}

// @ts-ignore: decorator
@inline
function putRow(c: usize, left: v128, right: v128): void {
  v128.store(c, left);
  v128.store(c, right, 16);
}
// @ts-ignore: decorator
@inline
function addRow(c: usize, left: v128, right: v128): void {
  v128.store(c, f32x4.add(v128.load(c), left));
  v128.store(c, f32x4.add(v128.load(c, 16), right), 16);
}

/**
 * Computes the same tile as `multiplyTile`, for products that may underflow or overflow. Products
 * and sums are rounded separately (no fused multiply-add), and a product that underflows becomes
 * +0.
 */
function multiplyTileExactly(
  depth: i32,
  a: usize,
  b: usize,
  c: usize,
  stride: usize,
  add: bool,
): void {
  for (let i = 0; i < ROWS; i++) {
    let left = i32x4.splat(0);
    let right = i32x4.splat(0);
    let at = a + ((<usize>i) << 2);
    let from = b;
    for (let k = 0; k < depth; k++) {
      const x = v128.load32_splat(at);
      left = f32x4.add(left, flushedProduct(x, v128.load(from)));
      right = f32x4.add(right, flushedProduct(x, v128.load(from, 16)));
      at += ROWS * 4;
      from += COLUMNS * 4;
    }
    if (add) addRow(c, left, right);
    else putRow(c, left, right);
    c += stride;
  }
}

// @ts-ignore: decorator
@inline
function flushedProduct(x: v128, y: v128): v128 {
  let p = f32x4.mul(x, y);
  const magnitude = f32x4.abs(p);
  if (v128.any_true(f32x4.eq(magnitude, f32x4.splat(SMALLEST_NORMAL)))) p = decided(x, y, p);
  return v128.andnot(p, f32x4.lt(f32x4.abs(p), f32x4.splat(SMALLEST_NORMAL)));
}

/**
 * Returns the rounded products `p`, with +0 in each SIMD lane whose exact product x·y has a
 * magnitude below the smallest normal number. `p` alone does not show this, because rounding may
 * have raised such a product to the smallest normal number.
 */
function decided(x: v128, y: v128, p: v128): v128 {
  const low = f64x2.mul(f64x2.promote_low_f32x4(x), f64x2.promote_low_f32x4(y));
  const high = f64x2.mul(f64x2.promote_low_f32x4(upper(x)), f64x2.promote_low_f32x4(upper(y)));
  const bound = f64x2.splat(SMALLEST_NORMAL);
  const lowUnder = f64x2.lt(f64x2.abs(low), bound);
  const highUnder = f64x2.lt(f64x2.abs(high), bound);
  return v128.andnot(p, i32x4.shuffle(lowUnder, highUnder, 0, 2, 4, 6));
}

// @ts-ignore: decorator
@inline
function upper(x: v128): v128 {
  return i64x2.shuffle(x, x, 1, 1);
}

// -------------------------------------------------------------------------------------- packing

function packRowBlock(lhs: usize, table: usize, height: i32, q: i32, length: i32): void {
  if (bf16 && !segmented) {
    const staged = stage(lhs, table, height, length);
    if (staged != 0) return packStagedRows(staged, table, height, q, length);
  }
  let to = workspace + PACKED_ROWS;
  let range = workspace + ROW_RANGES;
  for (let i = 0; i < height; i += ROWS) {
    clearRange(range);
    const lanes = min(ROWS, height - i);
    for (let t = 0; t < length; t += tileDepth) {
      const depth = min(tileDepth, length - t);
      const from = segmented ? lhs + <usize>((q + t) / tileDepth) * lhsSegment : lhs;
      const steps = segmented ? lhsDepth : lhsDepth + ((<usize>(q + t)) << 2);
      packRows(to, from, table, lanes, steps, depth, range);
      to += <usize>(depth * ROWS * 4);
    }
    table += ROWS * 4;
    range += 8;
  }
}

/**
 * Rounds a block of A to bf16 before the block is packed. To do so, the function copies the stretch
 * of memory that contains the block, and rounds the copy, in the buffer STAGE. The block is then
 * packed from STAGE. In a convolution the rows of A (windows) overlap in memory, so rounding during
 * packing would round the same elements many times.
 *
 * Returns the address that takes the place of `lhs` during packing: this address plus the byte
 * offset of an element in A is the address of the rounded element. Returns 0 if the stretch is too
 * long, if the windows overlap too little, or if a number needs the slow rounding (see
 * `needsCare`).
 */
function stage(lhs: usize, table: usize, height: i32, length: i32): usize {
  let rowLow = load<i32>(table);
  let rowHigh = rowLow;
  for (let i = 1; i < height; i++) {
    const offset = load<i32>(table + ((<usize>i) << 2));
    rowLow = min(rowLow, offset);
    rowHigh = max(rowHigh, offset);
  }
  const first = rowLow + depthLow;
  const count = rowHigh + depthHigh - first + 1;
  if (count > STAGE_WORDS || count * 2 > height * length) return 0;
  const to = workspace + STAGE;
  roundStretch(to, lhs + ((<usize>first) << 2), count);
  return needsCare() ? 0 : to - ((<usize>first) << 2);
}

function noteDepths(steps: usize, length: i32): void {
  depthLow = load<i32>(steps);
  depthHigh = depthLow;
  for (let k = 1; k < length; k++) {
    const offset = load<i32>(steps + ((<usize>k) << 2));
    depthLow = min(depthLow, offset);
    depthHigh = max(depthHigh, offset);
  }
}

export function roundStretch(to: usize, from: usize, count: i32): void {
  let low = i32x4.splat(-1);
  let high = i32x4.splat(0);
  for (; count >= 4; count -= 4) {
    const x = v128.load(from);
    low = lower(low, x);
    high = higher(high, x);
    v128.store(to, nearest(x));
    to += 16;
    from += 16;
  }
  for (; count > 0; count--) {
    const x = v128.load32_zero(from);
    low = lower(low, x);
    high = higher(high, x);
    v128.store32_lane(to, nearest(x), 0);
    to += 4;
    from += 4;
  }
  noteRange(low, high);
}

function packStagedRows(staged: usize, table: usize, height: i32, q: i32, length: i32): void {
  let to = workspace + PACKED_ROWS;
  let range = workspace + ROW_RANGES;
  const steps = lhsDepth + ((<usize>q) << 2);
  for (let i = 0; i < height; i += ROWS) {
    clearRange(range);
    widenRange(range, true);
    packPanel(ROWS, AS_THEY_ARE, to, staged, table, min(ROWS, height - i), steps, length);
    to += <usize>(length * ROWS * 4);
    table += ROWS * 4;
    range += 8;
  }
}

function packColumnBlock(rhs: usize, table: usize, width: i32, q: i32, length: i32): void {
  let to = workspace + PACKED_COLUMNS;
  let range = workspace + COLUMN_RANGES;
  for (let j = 0; j < width; j += COLUMNS) {
    clearRange(range);
    const lanes = min(COLUMNS, width - j);
    for (let t = 0; t < length; t += tileDepth) {
      const depth = min(tileDepth, length - t);
      const from = segmented ? rhs + <usize>((q + t) / tileDepth) * rhsSegment : rhs;
      const steps = segmented ? rhsDepth : rhsDepth + ((<usize>(q + t)) << 2);
      packColumns(to, from, table, lanes, steps, depth, range);
      to += <usize>(depth * COLUMNS * 4);
    }
    table += COLUMNS * 4;
    range += 8;
  }
}

function packRows(
  to: usize,
  from: usize,
  table: usize,
  lanes: i32,
  steps: usize,
  depth: i32,
  range: usize,
): void {
  if (bf16) {
    packRowsRounded(to, from, table, lanes, steps, depth);
    if (!needsCare()) return widenRange(range, true);
    packRowsAsTheyAre(to, from, table, lanes, steps, depth);
    roundWithCare(to, depth * ROWS);
  } else {
    packRowsAsTheyAre(to, from, table, lanes, steps, depth);
  }
  widenRange(range, false);
}

export function packColumns(
  to: usize,
  from: usize,
  table: usize,
  lanes: i32,
  steps: usize,
  depth: i32,
  range: usize,
): void {
  if (bf16) {
    packColumnsRounded(to, from, table, lanes, steps, depth);
    if (!needsCare()) return widenRange(range, true);
    packColumnsAsTheyAre(to, from, table, lanes, steps, depth);
    roundWithCare(to, depth * COLUMNS);
  } else {
    packColumnsAsTheyAre(to, from, table, lanes, steps, depth);
  }
  widenRange(range, false);
}

function packRowsRounded(
  to: usize,
  from: usize,
  table: usize,
  lanes: i32,
  steps: usize,
  depth: i32,
): void {
  packPanel(ROWS, ROUNDED, to, from, table, lanes, steps, depth);
}
function packRowsAsTheyAre(
  to: usize,
  from: usize,
  table: usize,
  lanes: i32,
  steps: usize,
  depth: i32,
): void {
  packPanel(ROWS, NOTED, to, from, table, lanes, steps, depth);
}
function packColumnsRounded(
  to: usize,
  from: usize,
  table: usize,
  lanes: i32,
  steps: usize,
  depth: i32,
): void {
  packPanel(COLUMNS, ROUNDED, to, from, table, lanes, steps, depth);
}
function packColumnsAsTheyAre(
  to: usize,
  from: usize,
  table: usize,
  lanes: i32,
  steps: usize,
  depth: i32,
): void {
  packPanel(COLUMNS, NOTED, to, from, table, lanes, steps, depth);
}

// Modes of packing. ROUNDED rounds the numbers to bf16 and records their range. NOTED copies the
// numbers and records their range. AS_THEY_ARE only copies the numbers.
const ROUNDED: i32 = 0;
const NOTED: i32 = 1;
const AS_THEY_ARE: i32 = 2;

// Range of the magnitudes in the panel that was packed last. A magnitude is an f32; its 32 bits are
// compared as a u32. `highest` is the maximum of these u32. `lowest` is the minimum of u32 − 1: the
// subtraction turns 0 into the largest u32, so that zeros do not lower the minimum.
let lowest: u32 = 0;
let highest: u32 = 0;

/**
 * Packs a panel of `width` (5, 6 or 8) lanes and `depth` steps. A lane is a row of A or a column of
 * B; a step is an index along the depth. If only `lanes` lanes exist, the remaining lanes of the
 * panel repeat the last existing lane. The function uses the first method that applies: vector
 * loads if the lanes are adjacent in memory; 4×4 transposes if four steps are adjacent in memory;
 * otherwise loads of single elements.
 */
// @ts-ignore: decorator
@inline
function packPanel(
  width: i32,
  how: i32,
  to: usize,
  from: usize,
  table: usize,
  lanes: i32,
  steps: usize,
  depth: i32,
): void {
  const o0 = load<i32>(table);
  const o1 = laneOffset(table, 1, lanes);
  const o2 = laneOffset(table, 2, lanes);
  const o3 = laneOffset(table, 3, lanes);
  const o4 = laneOffset(table, 4, lanes);
  const o5 = width > 5 ? laneOffset(table, 5, lanes) : o0 + 5;
  const o6 = width > 6 ? laneOffset(table, 6, lanes) : o0 + 6;
  const o7 = width > 7 ? laneOffset(table, 7, lanes) : o0 + 7;
  const gaps =
    (o1 - o0 - 1) | (o2 - o0 - 2) | (o3 - o0 - 3) | (o4 - o0 - 4) | (o5 - o0 - 5) | (o6 - o0 - 6) | (o7 - o0 - 7);
  const end = steps + ((<usize>depth) << 2);
  const a0 = from + ((<usize>o0) << 2);
  let low = i32x4.splat(-1);
  let high = i32x4.splat(0);

  if (gaps == 0) {
    for (; steps < end; steps += 4) {
      const at = a0 + ((<usize>load<i32>(steps)) << 2);
      const x = v128.load(at);
      if (how != AS_THEY_ARE) low = lower(low, x);
      if (how != AS_THEY_ARE) high = higher(high, x);
      v128.store(to, how == ROUNDED ? nearest(x) : x);
      let y: v128;
      if (width == 8) y = v128.load(at, 16);
      else if (width == 6) y = v128.load64_zero(at, 16);
      else y = v128.load32_zero(at, 16);
      if (how != AS_THEY_ARE) low = lower(low, y);
      if (how != AS_THEY_ARE) high = higher(high, y);
      if (how == ROUNDED) y = nearest(y);
      if (width == 8) v128.store(to, y, 16);
      else if (width == 6) v128.store64_lane(to, y, 0, 16);
      else v128.store32_lane(to, y, 0, 16);
      to += width * 4;
    }
    if (how != AS_THEY_ARE) noteRange(low, high);
    return;
  }

  const a1 = from + ((<usize>o1) << 2);
  const a2 = from + ((<usize>o2) << 2);
  const a3 = from + ((<usize>o3) << 2);
  const a4 = from + ((<usize>o4) << 2);
  const a5 = from + ((<usize>o5) << 2);
  const a6 = from + ((<usize>o6) << 2);
  const a7 = from + ((<usize>o7) << 2);
  while (steps < end) {
    const step = (<usize>load<i32>(steps)) << 2;
    if (steps + 16 <= end && adjacent(steps)) {
      let x0 = v128.load(a0 + step);
      let x1 = v128.load(a1 + step);
      let x2 = v128.load(a2 + step);
      let x3 = v128.load(a3 + step);
      if (how != AS_THEY_ARE) low = lower(lower(lower(lower(low, x0), x1), x2), x3);
      if (how != AS_THEY_ARE) high = higher(higher(higher(higher(high, x0), x1), x2), x3);
      if (how == ROUNDED) {
        x0 = nearest(x0);
        x1 = nearest(x1);
        x2 = nearest(x2);
        x3 = nearest(x3);
      }
      let y0 = i32x4.shuffle(x0, x1, 0, 4, 1, 5);
      let y1 = i32x4.shuffle(x0, x1, 2, 6, 3, 7);
      let y2 = i32x4.shuffle(x2, x3, 0, 4, 1, 5);
      let y3 = i32x4.shuffle(x2, x3, 2, 6, 3, 7);
      v128.store(to, i64x2.shuffle(y0, y2, 0, 2));
      v128.store(to + width * 4, i64x2.shuffle(y0, y2, 1, 3));
      v128.store(to + width * 8, i64x2.shuffle(y1, y3, 0, 2));
      v128.store(to + width * 12, i64x2.shuffle(y1, y3, 1, 3));
      x0 = v128.load(a4 + step);
      if (how != AS_THEY_ARE) low = lower(low, x0);
      if (how != AS_THEY_ARE) high = higher(high, x0);
      if (how == ROUNDED) x0 = nearest(x0);
      if (width == 5) {
        v128.store32_lane(to, x0, 0, 16);
        v128.store32_lane(to + width * 4, x0, 1, 16);
        v128.store32_lane(to + width * 8, x0, 2, 16);
        v128.store32_lane(to + width * 12, x0, 3, 16);
      } else {
        x1 = v128.load(a5 + step);
        if (how != AS_THEY_ARE) low = lower(low, x1);
        if (how != AS_THEY_ARE) high = higher(high, x1);
        if (how == ROUNDED) x1 = nearest(x1);
        y0 = i32x4.shuffle(x0, x1, 0, 4, 1, 5);
        y1 = i32x4.shuffle(x0, x1, 2, 6, 3, 7);
        if (width == 6) {
          v128.store64_lane(to, y0, 0, 16);
          v128.store64_lane(to + width * 4, y0, 1, 16);
          v128.store64_lane(to + width * 8, y1, 0, 16);
          v128.store64_lane(to + width * 12, y1, 1, 16);
        } else {
          x2 = v128.load(a6 + step);
          x3 = v128.load(a7 + step);
          if (how != AS_THEY_ARE) low = lower(lower(low, x2), x3);
          if (how != AS_THEY_ARE) high = higher(higher(high, x2), x3);
          if (how == ROUNDED) {
            x2 = nearest(x2);
            x3 = nearest(x3);
          }
          y2 = i32x4.shuffle(x2, x3, 0, 4, 1, 5);
          y3 = i32x4.shuffle(x2, x3, 2, 6, 3, 7);
          v128.store(to, i64x2.shuffle(y0, y2, 0, 2), 16);
          v128.store(to + width * 4, i64x2.shuffle(y0, y2, 1, 3), 16);
          v128.store(to + width * 8, i64x2.shuffle(y1, y3, 0, 2), 16);
          v128.store(to + width * 12, i64x2.shuffle(y1, y3, 1, 3), 16);
        }
      }
      to += width * 16;
      steps += 16;
    } else {
      let x = v128.load32_zero(a0 + step);
      x = v128.load32_lane(a1 + step, x, 1);
      x = v128.load32_lane(a2 + step, x, 2);
      x = v128.load32_lane(a3 + step, x, 3);
      if (how != AS_THEY_ARE) low = lower(low, x);
      if (how != AS_THEY_ARE) high = higher(high, x);
      v128.store(to, how == ROUNDED ? nearest(x) : x);
      let y = v128.load32_zero(a4 + step);
      if (width > 5) y = v128.load32_lane(a5 + step, y, 1);
      if (width > 6) y = v128.load32_lane(a6 + step, y, 2);
      if (width > 7) y = v128.load32_lane(a7 + step, y, 3);
      if (how != AS_THEY_ARE) low = lower(low, y);
      if (how != AS_THEY_ARE) high = higher(high, y);
      if (how == ROUNDED) y = nearest(y);
      if (width == 8) v128.store(to, y, 16);
      else if (width == 6) v128.store64_lane(to, y, 0, 16);
      else v128.store32_lane(to, y, 0, 16);
      to += width * 4;
      steps += 4;
    }
  }
  if (how != AS_THEY_ARE) noteRange(low, high);
}

// @ts-ignore: decorator
@inline
function laneOffset(table: usize, lane: i32, lanes: i32): i32 {
  return load<i32>(table + ((<usize>min(lane, lanes - 1)) << 2));
}

/** True if the next four entries of the depth table `steps` are offsets of adjacent elements. */
// @ts-ignore: decorator
@inline
function adjacent(steps: usize): bool {
  const expected = i32x4.add(v128.load32_splat(steps), i32x4(0, 1, 2, 3));
  return i32x4.all_true(i32x4.eq(v128.load(steps), expected));
}

/**
 * Rounds four f32 to the nearest bf16, ties to even. Correct for all numbers except NaN and
 * subnormals.
 */
// @ts-ignore: decorator
@inline
function nearest(x: v128): v128 {
  const odd = v128.and(i32x4.shr_u(x, 16), i32x4.splat(1));
  return v128.and(i32x4.add(i32x4.add(x, i32x4.splat(0x7fff)), odd), i32x4.splat(0xffff_0000));
}

// @ts-ignore: decorator
@inline
function lower(low: v128, x: v128): v128 {
  const magnitude = v128.and(x, i32x4.splat(SIGN_OFF));
  return i32x4.min_u(low, i32x4.sub(magnitude, i32x4.splat(1)));
}
// @ts-ignore: decorator
@inline
function higher(high: v128, x: v128): v128 {
  return i32x4.max_u(high, v128.and(x, i32x4.splat(SIGN_OFF)));
}

function noteRange(low: v128, high: v128): void {
  low = i32x4.min_u(low, i64x2.shuffle(low, low, 1, 0));
  low = i32x4.min_u(low, i32x4.shuffle(low, low, 1, 0, 3, 2));
  high = i32x4.max_u(high, i64x2.shuffle(high, high, 1, 0));
  high = i32x4.max_u(high, i32x4.shuffle(high, high, 1, 0, 3, 2));
  lowest = i32x4.extract_lane(low, 0);
  highest = i32x4.extract_lane(high, 0);
}

/**
 * True if the numbers that were rounded last (a panel or a stretch of memory) contain a NaN or a
 * subnormal. The function `nearest` does not round such numbers correctly.
 */
// @ts-ignore: decorator
@inline
export function needsCare(): bool {
  return lowest < SMALLEST_NORMAL_BITS - 1 || highest > INFINITY_BITS;
}

/**
 * Rounds `count` packed numbers to bf16 by the rules of numerics/bf16.ts, including NaNs and
 * subnormals. Records the range of the rounded numbers.
 */
function roundWithCare(at: usize, count: i32): void {
  let low = i32x4.splat(-1);
  let high = i32x4.splat(0);
  for (let i = 0; i < count; i++) {
    const x = v128.load32_zero(at);
    const r = rounded(x);
    low = lower(low, r);
    high = higher(high, r);
    v128.store32_lane(at, r, 0);
    at += 4;
  }
  noteRange(low, high);
}

function rounded(x: v128): v128 {
  const quiet = v128.or(v128.and(x, i32x4.splat(0xffff_0000)), i32x4.splat(0x0040_0000));
  const r = nearest(x);
  const under = i32x4.eq(v128.and(r, i32x4.splat(INFINITY_BITS)), i32x4.splat(0));
  const kept = v128.and(r, v128.or(v128.not(under), i32x4.splat(0x8000_0000)));
  return v128.bitselect(kept, quiet, f32x4.eq(x, x));
}

// Clears the range of a panel. A range consists of the smallest and the largest biased exponent
// among the nonzero values of the panel.
// @ts-ignore: decorator
@inline
export function clearRange(range: usize): void {
  store<i32>(range, NO_EXPONENT);
  store<i32>(range, 0, 4);
}

/**
 * Widens a range of exponents so that the range covers the panel that was packed last.
 * `roundedLater` is true if the panel was rounded after its range was recorded. In this case the
 * function adds 1 to the largest exponent, because rounding may have raised the exponent by 1.
 */
export function widenRange(range: usize, roundedLater: bool): void {
  let low = NO_EXPONENT;
  if (lowest != 0xffff_ffff) {
    low = lowest >= SMALLEST_NORMAL_BITS - 1 ? <i32>((lowest + 1) >>> 23) : SUBNORMAL_EXPONENT;
  }
  const high = <i32>(highest >>> 23) + (roundedLater ? 1 : 0);
  store<i32>(range, min(load<i32>(range), low));
  store<i32>(range, max(load<i32>(range, 4), high), 4);
}
