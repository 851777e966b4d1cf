// Folds a message for a CRC-32: see crc.ts beside this folder.

// In bytes: how far a lane of 16 bytes is moved on. The ring has what is not yet moved the last.
const near: usize = 609;
const far: usize = 6035;
const ringBytes: usize = 583 << 4;
const tailBytes: usize = 19 << 4;

/**
 * Folds a message of `bytes`, a multiple of 16 and at least those of the ring, into the 304 bytes
 * at `tail`:
 *
 *     folded[i] = source[i] ^ folded[i − 609] ^ folded[i − 6035] ^ folded[i − 9328]
 *
 * A folded lane takes the place of the one 9328 bytes before it: so few that they stay in the nearest
 * cache. The last 9328 bytes of the message are not moved on: they only take. Before the ring lie 304
 * zeros, and behind it as many as are ever read there.
 */
export function fold(
  ring: usize,
  source: usize,
  bytes: usize,
  tail: usize,
  initial: i32,
): void {
  const end = ring + ringBytes;
  memory.fill(ring, 0, ringBytes);
  const moved = bytes - ringBytes;
  // The last lane that is moved on is the last of the ring.
  let at = (ringBytes - (moved % ringBytes)) % ringBytes;
  i32.store(ring + at, initial);
  source -= at;
  for (let rounds = (at + moved) / ringBytes; rounds > 0; rounds--) {
    at = run(ring, at, near & ~15, source, end - near, end - far);
    at = run(ring, at, far & ~15, source, ring - near, end - far);
    run(ring, at, ringBytes, source, ring - near, ring - far);
    // Of a lane that is taken from behind the end and the beginning at once.
    v128.store(ring - 16, v128.load(ring + ringBytes - 16));
    source += ringBytes;
    at = 0;
  }
  v128.store(ring - 16, i64x2.splat(0));
  run(ring, 0, ringBytes, source, end - near, end - far);
  foldRing(ring, tail);
}

/** Folds from offset `at` to `end`, if that is behind it; gives where the next run begins. */
function run(ring: usize, at: usize, end: usize, source: usize, a: usize, b: usize): usize {
  if (at >= end) return at;
  const last = ring + end;
  const wide = ring + at + ((end - at) & ~127);
  ring += at;
  source += at;
  a += at;
  b += at;
  while (ring < wide) {
    foldLane(ring, source, a, b);
    foldLane(ring + 16, source + 16, a + 16, b + 16);
    foldLane(ring + 32, source + 32, a + 32, b + 32);
    foldLane(ring + 48, source + 48, a + 48, b + 48);
    foldLane(ring + 64, source + 64, a + 64, b + 64);
    foldLane(ring + 80, source + 80, a + 80, b + 80);
    foldLane(ring + 96, source + 96, a + 96, b + 96);
    foldLane(ring + 112, source + 112, a + 112, b + 112);
    ring += 128;
    source += 128;
    a += 128;
    b += 128;
  }
  while (ring < last) {
    foldLane(ring, source, a, b);
    ring += 16;
    source += 16;
    a += 16;
    b += 16;
  }
  return end;
}

// @ts-expect-error: a decorator of AssemblyScript.
@inline
function foldLane(ring: usize, source: usize, a: usize, b: usize): void {
  const ab = v128.xor(v128.load(a), v128.load(b));
  v128.store(ring, v128.xor(ab, v128.xor(v128.load(source), v128.load(ring))));
}

/** Folds the ring once more, with other distances: 16 bytes at once, since all are moved further. */
function foldRing(ring: usize, tail: usize): void {
  const end = ring + ringBytes - tailBytes;
  for (let lane = ring; lane < end; lane += 16) {
    v128.store(lane, v128.xor(v128.load(lane), taken(lane)));
  }
  for (let i: usize = 0; i < tailBytes; i += 16) {
    v128.store(tail + i, v128.load(end + i));
    v128.store(end + i, i64x2.splat(0));
  }
  for (let i: usize = 0; i < tailBytes; i += 16) {
    v128.store(tail + i, v128.xor(v128.load(tail + i), taken(end + i)));
  }
}

/** What a lane takes when bytes are moved 145, 183, 211 and 300 on. */
// @ts-expect-error: a decorator of AssemblyScript.
@inline
function taken(lane: usize): v128 {
  const ab = v128.xor(v128.load(lane - 145), v128.load(lane - 183));
  const cd = v128.xor(v128.load(lane - 211), v128.load(lane - 300));
  return v128.xor(ab, cd);
}
