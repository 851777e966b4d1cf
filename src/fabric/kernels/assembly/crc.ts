// Folds a message for a CRC-32: see crc.ts beside this folder.

const foldLanes: usize = 300;
const blockLanes: usize = 1200;

/**
 * Folds `lanes` lanes of 16 bytes from `source` on:
 *
 *     folded[j] = source[j] ^ folded[j − 145] ^ folded[j − 183] ^ folded[j − 211] ^ folded[j − 300]
 *
 * `scratch` has the last 300 folded lanes before and after; a block follows them there, so that what
 * is written and read again stays in the nearest cache.
 */
export function fold(scratch: usize, source: usize, lanes: usize): void {
  const block = scratch + (foldLanes << 4);
  while (lanes > 0) {
    const count = lanes < blockLanes ? lanes : blockLanes;
    foldBlock(block, block, source, count);
    copy(scratch, scratch + (count << 4), foldLanes);
    source += count << 4;
    lanes -= count;
  }
}

/**
 * Makes `scratch` what comes before a message: the initial value of the CRC, where only lane 0 takes
 * it up.
 */
export function begin(scratch: usize): void {
  clear(scratch, foldLanes);
  i32.store(scratch, -1);
}

/** The last 300 lanes only take: writes source[j] and what folded lanes move there to `target`. */
export function finish(target: usize, scratch: usize, source: usize): void {
  const block = scratch + (foldLanes << 4);
  clear(block, foldLanes);
  foldBlock(target, block, source, foldLanes);
}

/** `target` is `folded`, or apart from it. */
function foldBlock(target: usize, folded: usize, source: usize, lanes: usize): void {
  const end = source + (lanes << 4);
  const wide = source + ((lanes & ~3) << 4);
  let a = folded - 145 * 16;
  let b = folded - 183 * 16;
  let c = folded - 211 * 16;
  let d = folded - 300 * 16;
  while (source < wide) {
    const ab0 = v128.xor(v128.load(a, 0), v128.load(b, 0));
    const cd0 = v128.xor(v128.load(c, 0), v128.load(d, 0));
    v128.store(target, v128.xor(v128.load(source, 0), v128.xor(ab0, cd0)), 0);
    const ab1 = v128.xor(v128.load(a, 16), v128.load(b, 16));
    const cd1 = v128.xor(v128.load(c, 16), v128.load(d, 16));
    v128.store(target, v128.xor(v128.load(source, 16), v128.xor(ab1, cd1)), 16);
    const ab2 = v128.xor(v128.load(a, 32), v128.load(b, 32));
    const cd2 = v128.xor(v128.load(c, 32), v128.load(d, 32));
    v128.store(target, v128.xor(v128.load(source, 32), v128.xor(ab2, cd2)), 32);
    const ab3 = v128.xor(v128.load(a, 48), v128.load(b, 48));
    const cd3 = v128.xor(v128.load(c, 48), v128.load(d, 48));
    v128.store(target, v128.xor(v128.load(source, 48), v128.xor(ab3, cd3)), 48);
    source += 64;
    target += 64;
    a += 64;
    b += 64;
    c += 64;
    d += 64;
  }
  while (source < end) {
    const ab = v128.xor(v128.load(a), v128.load(b));
    const cd = v128.xor(v128.load(c), v128.load(d));
    v128.store(target, v128.xor(v128.load(source), v128.xor(ab, cd)));
    source += 16;
    target += 16;
    a += 16;
    b += 16;
    c += 16;
    d += 16;
  }
}

/** Copies lanes to lower addresses. */
function copy(target: usize, source: usize, lanes: usize): void {
  const end = target + (lanes << 4);
  while (target < end) {
    v128.store(target, v128.load(source, 0), 0);
    v128.store(target, v128.load(source, 16), 16);
    v128.store(target, v128.load(source, 32), 32);
    v128.store(target, v128.load(source, 48), 48);
    target += 64;
    source += 64;
  }
}

function clear(target: usize, lanes: usize): void {
  const end = target + (lanes << 4);
  const zero = i64x2.splat(0);
  while (target < end) {
    v128.store(target, zero);
    target += 16;
  }
}
