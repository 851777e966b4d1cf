// Folds a message for a CRC-32: see crc.ts beside this folder.

// In bytes, of lanes of 16: how far a lane is moved on. The ring has what is not yet moved the last.
const near: usize = 145 << 4;
const middle: usize = 183 << 4;
const far: usize = 211 << 4;
const ringBytes: usize = 300 << 4;
const tailBytes: usize = 19 << 4;

/**
 * Folds a message of `bytes`, a multiple of 16 and at least those of the ring, into the 304 bytes
 * behind the ring:
 *
 *     folded[j] = source[j] ^ folded[j − 145] ^ folded[j − 183] ^ folded[j − 211] ^ folded[j − 300]
 *
 * A folded lane takes the place of the one 300 before it: so few that they stay in the nearest
 * cache. The last 300 lanes of the message are not moved on: they only take. Before the ring lie 304
 * zeros, which stay.
 */
export function fold(ring: usize, source: usize, bytes: usize): void {
  const end = ring + ringBytes;
  // What follows the ring are the last lanes, to whoever takes from them.
  memory.fill(ring, 0, ringBytes + ringBytes - near);
  const moved = bytes - ringBytes;
  // The last lane that is moved on is the last of the ring.
  let at = (ringBytes - (moved % ringBytes)) % ringBytes;
  // The initial value of the CRC.
  i32.store(ring + at, -1);
  source -= at;
  for (let rounds = (at + moved) / ringBytes; rounds > 0; rounds--) {
    at = run(ring, at, near, source, end - near, end - middle, end - far);
    at = run(ring, at, middle, source, ring - near, end - middle, end - far);
    at = run(ring, at, far, source, ring - near, ring - middle, end - far);
    run(ring, at, ringBytes, source, ring - near, ring - middle, ring - far);
    source += ringBytes;
    at = 0;
  }
  run(ring, 0, ringBytes, source, end - near, end - middle, end - far);
  foldRing(ring);
}

/** Folds the ring once more, the same way by bytes: 16 at once, since all are moved further. */
function foldRing(ring: usize): void {
  const end = ring + ringBytes;
  const tail = end - tailBytes;
  for (let lane = ring; lane < tail; lane += 16) {
    v128.store(lane, v128.xor(v128.load(lane), taken(lane)));
  }
  for (let i: usize = 0; i < tailBytes; i += 16) {
    v128.store(end + i, v128.load(tail + i));
    v128.store(tail + i, i64x2.splat(0));
  }
  for (let i: usize = 0; i < tailBytes; i += 16) {
    v128.store(end + i, v128.xor(v128.load(end + i), taken(tail + i)));
  }
}

/** What a lane takes when bytes are moved on. */
// @ts-expect-error: a decorator of AssemblyScript.
@inline
function taken(lane: usize): v128 {
  const ab = v128.xor(v128.load(lane - (near >> 4)), v128.load(lane - (middle >> 4)));
  const cd = v128.xor(v128.load(lane - (far >> 4)), v128.load(lane - (ringBytes >> 4)));
  return v128.xor(ab, cd);
}

/** Folds from offset `at` to `end`, if that is behind it; gives where the next run begins. */
function run(
  ring: usize,
  at: usize,
  end: usize,
  source: usize,
  a: usize,
  b: usize,
  c: usize,
): usize {
  if (at >= end) return at;
  const last = ring + end;
  const wide = ring + at + ((end - at) & ~63);
  ring += at;
  source += at;
  a += at;
  b += at;
  c += at;
  while (ring < wide) {
    const ab0 = v128.xor(v128.load(a, 0), v128.load(b, 0));
    const cd0 = v128.xor(v128.load(c, 0), v128.load(ring, 0));
    v128.store(ring, v128.xor(v128.load(source, 0), v128.xor(ab0, cd0)), 0);
    const ab1 = v128.xor(v128.load(a, 16), v128.load(b, 16));
    const cd1 = v128.xor(v128.load(c, 16), v128.load(ring, 16));
    v128.store(ring, v128.xor(v128.load(source, 16), v128.xor(ab1, cd1)), 16);
    const ab2 = v128.xor(v128.load(a, 32), v128.load(b, 32));
    const cd2 = v128.xor(v128.load(c, 32), v128.load(ring, 32));
    v128.store(ring, v128.xor(v128.load(source, 32), v128.xor(ab2, cd2)), 32);
    const ab3 = v128.xor(v128.load(a, 48), v128.load(b, 48));
    const cd3 = v128.xor(v128.load(c, 48), v128.load(ring, 48));
    v128.store(ring, v128.xor(v128.load(source, 48), v128.xor(ab3, cd3)), 48);
    ring += 64;
    source += 64;
    a += 64;
    b += 64;
    c += 64;
  }
  while (ring < last) {
    const ab = v128.xor(v128.load(a), v128.load(b));
    const cd = v128.xor(v128.load(c), v128.load(ring));
    v128.store(ring, v128.xor(v128.load(source), v128.xor(ab, cd)));
    ring += 16;
    source += 16;
    a += 16;
    b += 16;
    c += 16;
  }
  return end;
}
