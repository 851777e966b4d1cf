// Folds a message for a CRC-32: see crc.ts beside this folder.

/**
 * target[j] = source[j] ^ folded[j − 145] ^ folded[j − 183] ^ folded[j − 211] ^ folded[j − 300],
 * in lanes of 16 bytes, for j < lanes.
 */
export function fold(target: usize, folded: usize, source: usize, lanes: usize): void {
  const end = source + (lanes << 4);
  const wide = source + ((lanes & ~3) << 4);
  const a = folded - 145 * 16;
  const b = folded - 183 * 16;
  const c = folded - 211 * 16;
  const d = folded - 300 * 16;
  let at: usize = 0;
  while (source < wide) {
    const ab0 = v128.xor(v128.load(a + at, 0), v128.load(b + at, 0));
    const cd0 = v128.xor(v128.load(c + at, 0), v128.load(d + at, 0));
    v128.store(target + at, v128.xor(v128.load(source, 0), v128.xor(ab0, cd0)), 0);
    const ab1 = v128.xor(v128.load(a + at, 16), v128.load(b + at, 16));
    const cd1 = v128.xor(v128.load(c + at, 16), v128.load(d + at, 16));
    v128.store(target + at, v128.xor(v128.load(source, 16), v128.xor(ab1, cd1)), 16);
    const ab2 = v128.xor(v128.load(a + at, 32), v128.load(b + at, 32));
    const cd2 = v128.xor(v128.load(c + at, 32), v128.load(d + at, 32));
    v128.store(target + at, v128.xor(v128.load(source, 32), v128.xor(ab2, cd2)), 32);
    const ab3 = v128.xor(v128.load(a + at, 48), v128.load(b + at, 48));
    const cd3 = v128.xor(v128.load(c + at, 48), v128.load(d + at, 48));
    v128.store(target + at, v128.xor(v128.load(source, 48), v128.xor(ab3, cd3)), 48);
    source += 64;
    at += 64;
  }
  while (source < end) {
    const ab = v128.xor(v128.load(a + at), v128.load(b + at));
    const cd = v128.xor(v128.load(c + at), v128.load(d + at));
    v128.store(target + at, v128.xor(v128.load(source), v128.xor(ab, cd)));
    source += 16;
    at += 16;
  }
}

/** Writes `lanes` lanes of zeros. */
export function clear(target: usize, lanes: usize): void {
  const end = target + (lanes << 4);
  const zero = i64x2.splat(0);
  while (target < end) {
    v128.store(target, zero);
    target += 16;
  }
}
