// Folds a message for a CRC-32: see crc.ts beside this folder.

// In bytes: of the ring, and how far ahead in it the lane lies that was folded 5869 bytes before.
const ringBytes: usize = 368 << 4;
const ahead: usize = ringBytes - 5869;
/** Two lanes behind the ring repeat its beginning, as three before it do its end. */
const behind: usize = 2 << 4;
const tailBytes: usize = 19 << 4;

/**
 * Begins a message whose first lane takes its place `at` bytes from the start of the ring: so chosen
 * that the last lane that is moved on takes the ring's last. Before the ring lie 304 bytes and behind it
 * 32 that are its own; those before are zeros then, and after {@link finish}.
 */
export function begin(ring: usize, at: usize): void {
  // With the three lanes before it, which a message that was dropped may have left.
  memory.fill(ring - 48, 0, 48 + ringBytes);
  // A CRC-32 begins with ones, which the first lane takes from where what it takes lies.
  i32.store(ring + ((at + ahead) % ringBytes), -1);
}

/**
 * Folds the next `bytes`, a multiple of 16, of all but the last 5888 of a message, and returns where in
 * the ring what follows takes its place:
 *
 *     folded[i] = source[i] ^ folded[i − 34] ^ folded[i − 48] ^ folded[i − 5869]
 *
 * The last three lanes are in registers: nothing is read but the source and what lies 5869 bytes
 * back. A folded lane takes the place of the one 5888 bytes before it: so few that they stay in the
 * nearest cache.
 */
export function move(ring: usize, at: usize, source: usize, bytes: usize): usize {
  const end = ring + ringBytes;
  const repeated = ringBytes - behind;
  while (bytes > 0) {
    const isLast = at >= repeated;
    const count = min(bytes, (isLast ? ringBytes : repeated) - at);
    if (isLast) {
      v128.store(end, v128.load(ring));
      v128.store(end + 16, v128.load(ring + 16));
    }
    run(ring + at, ring + at + count, source);
    at += count;
    source += count;
    bytes -= count;
    if (at < ringBytes) continue;
    at = 0;
    v128.store(ring - 48, v128.load(end - 48));
    v128.store(ring - 32, v128.load(end - 32));
    v128.store(ring - 16, v128.load(end - 16));
  }
  return at;
}

/**
 * Folds the last 5888 bytes of a message, which only take, with the ring into the 304 at `tail`. What of
 * the ring is not among its own last 304 is moved on once more, by 145, 183, 211 and 300 bytes.
 */
export function finish(ring: usize, source: usize, tail: usize): void {
  const end = ring + ringBytes;
  takeMoved(ring);
  const toTail = tail - (end - tailBytes);
  // 300 bytes before a lane: so offsets are no work.
  let from = ring - 300;
  for (let moved = from + ringBytes - tailBytes; from < moved; from += 16) {
    v128.store(from, lastLane(from, source), 300);
    source += 16;
  }
  for (; from < end - 300; from += 16) {
    v128.store(from + toTail, lastLane(from, source), 300);
    v128.store(from, i64x2.splat(0), 300);
    source += 16;
  }
}

/** What the last three lanes before the ring move into it, to where its first lanes take it from. */
function takeMoved(ring: usize): void {
  const zero = i64x2.splat(0);
  const third = v128.load(ring - 48);
  const second = v128.load(ring - 32);
  const first = v128.load(ring - 16);
  v128.store(ring - 48, zero);
  v128.store(ring - 32, zero);
  v128.store(ring - 16, zero);
  v128.store(ring + ringBytes, zero);
  v128.store(ring + ringBytes + 16, zero);
  take(ring + ahead, v128.xor(third, straddling(third, second)));
  take(ring + ahead + 16, v128.xor(second, straddling(second, first)));
  take(ring + ahead + 32, v128.xor(first, straddling(first, zero)));
}

// @ts-expect-error: a decorator of AssemblyScript.
@inline
function take(at: usize, moved: v128): void {
  v128.store(at, v128.xor(v128.load(at), moved));
}

/** Folds what takes its place from `at` to `end`. */
function run(at: usize, end: usize, source: usize): void {
  let third = v128.load(at - 48);
  let second = v128.load(at - 32);
  let first = v128.load(at - 16);
  const wide = at + ((end - at) / 96) * 96;
  while (at < wide) {
    third = foldLane(at, source, third, second);
    second = foldLane(at + 16, source + 16, second, first);
    first = foldLane(at + 32, source + 32, first, third);
    third = foldLane(at + 48, source + 48, third, second);
    second = foldLane(at + 64, source + 64, second, first);
    first = foldLane(at + 80, source + 80, first, third);
    at += 96;
    source += 96;
  }
  while (at < end) {
    const lane = foldLane(at, source, third, second);
    third = second;
    second = first;
    first = lane;
    at += 16;
    source += 16;
  }
}

/** `third` and `second` are the third and the second lane before. */
// @ts-expect-error: a decorator of AssemblyScript.
@inline
function foldLane(at: usize, source: usize, third: v128, second: v128): v128 {
  const far = v128.xor(v128.load(source), v128.load(at + ahead));
  // What was folded last comes last: the next lane but one waits for it.
  const lane = v128.xor(v128.xor(far, third), straddling(third, second));
  v128.store(at, lane);
  return lane;
}

/** The 16 bytes that begin 34 bytes before the end of these two lanes and one more. */
// @ts-expect-error: a decorator of AssemblyScript.
@inline
function straddling(third: v128, second: v128): v128 {
  return v128.shuffle<u8>(
    third, second,
    14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29,
  );
}

/** One of the last lanes of a message, with what it takes from 5869, 300, 211, 183 and 145 bytes back. */
// @ts-expect-error: a decorator of AssemblyScript.
@inline
function lastLane(from: usize, source: usize): v128 {
  const far = v128.xor(v128.load(source), v128.load(from, 300 + ahead));
  const ab = v128.xor(v128.load(from, 300 - 145), v128.load(from, 300 - 183));
  const cd = v128.xor(v128.load(from, 300 - 211), v128.load(from));
  return v128.xor(far, v128.xor(ab, cd));
}
