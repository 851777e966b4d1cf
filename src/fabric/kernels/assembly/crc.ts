// Kernel that folds a message for a CRC-32: it shortens the message such that the CRC stays the
// same. The class FrameCrc in ../crc.ts explains the method. A lane is 16 bytes, as wide as a SIMD
// register. The ring is a circular buffer that holds the newest 5888 folded bytes.

// `ringBytes` is the size of the ring. A new lane is stored in place of the lane from 5888 bytes
// earlier in the message. The bytes from 5869 bytes earlier are xored into the new lane. In the
// ring, these bytes lie `ahead` = 5888 − 5869 = 19 bytes after the place of the new lane.
const ringBytes: usize = 368 << 4;
const ahead: usize = ringBytes - 5869;
/**
 * Size, in bytes, of a copy of the first two lanes of the ring. This copy lies behind the end of
 * the ring. A copy of the last three lanes of the ring lies before its start. So a read that
 * crosses the start or the end of the ring need not wrap around.
 */
const behind: usize = 2 << 4;
const tailBytes: usize = 19 << 4;

/**
 * Begins a message. The first lane of the message will be stored at offset `at` in the ring. The
 * caller chooses `at` such that the last folded lane is stored at the end of the ring.
 *
 * The kernel also uses 304 bytes before the ring and 32 bytes behind it. The 304 bytes are zeros
 * after `begin` and after {@link finish}.
 */
export function begin(ring: usize, at: usize): void {
  // An unfinished message may have left bytes in the three lanes before the ring, so these are
  // cleared too.
  memory.fill(ring - 48, 0, 48 + ringBytes);
  // The CRC-32 is defined such that its first 32 bits are inverted, that is, xored with one bits.
  // `move` will xor the first lane with the bytes `ahead` bytes after the lane's place in the ring.
  // So 32 one bits are stored there.
  i32.store(ring + ((at + ahead) % ringBytes), -1);
}

/**
 * Folds the next `bytes` bytes of a message into the ring, from ring offset `at` on. `bytes` is a
 * multiple of 16. The caller passes all bytes of the message except the last 5888;
 * {@link finish} folds these. Returns the ring offset at which the next lane will be stored. Byte i
 * of the message is folded by this formula:
 *
 *     folded[i] = source[i] ^ folded[i − 34] ^ folded[i − 48] ^ folded[i − 5869]
 *
 * The last three folded lanes are kept in registers. So memory is read only for the source and for
 * the folded bytes from 5869 bytes earlier. A folded lane overwrites the lane from 5888 bytes
 * earlier. The ring is so small that it stays in the processor's nearest cache.
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
 * Folds the last 5888 bytes of a message into the 304 bytes at `tail`. Before a byte is folded, it
 * is xored with the byte that `move` has left for it in the ring. To fold a lane (16 bytes) means
 * to xor it into the bytes that begin 145, 183, 211 and 300 bytes after its start, and to drop the
 * lane. The last 19 lanes (304 bytes) are not folded; they are the result.
 */
export function finish(ring: usize, source: usize, tail: usize): void {
  const end = ring + ringBytes;
  takeMoved(ring);
  const toTail = tail - (end - tailBytes);
  // `from` points 300 bytes before the lane. So all offsets from it are non-negative constants,
  // which are a part of the load and store instructions and cost no time.
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

/**
 * Removes the three newest lanes from the ring. These lanes must still be xored into the message,
 * 34 and 48 bytes after their places. But the message must not be written. So the lanes are xored
 * into the ring instead: into the bytes that {@link finish} will xor with those bytes of the
 * message.
 */
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

/**
 * Folds the lanes whose places in the ring are from `at` to `end`. `source` is the address of the
 * same lanes in the message.
 */
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

/**
 * Folds one lane and returns the result. `third` is the folded lane that begins 48 bytes before it,
 * `second` the folded lane that begins 32 bytes before it.
 */
// @ts-expect-error: a decorator of AssemblyScript.
@inline
function foldLane(at: usize, source: usize, third: v128, second: v128): v128 {
  const far = v128.xor(v128.load(source), v128.load(at + ahead));
  // `second` is the newest of all inputs. It is xored last, so that the other exclusive ors need
  // not wait until it is computed.
  const lane = v128.xor(v128.xor(far, third), straddling(third, second));
  v128.store(at, lane);
  return lane;
}

/**
 * Returns the 16 bytes that begin 34 bytes before the current lane. `third` begins 48 bytes before
 * the current lane, and `second` 32 bytes. So the result is the last 2 bytes of `third` and the
 * first 14 bytes of `second`.
 */
// @ts-expect-error: a decorator of AssemblyScript.
@inline
function straddling(third: v128, second: v128): v128 {
  return v128.shuffle<u8>(
    third, second,
    14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29,
  );
}

/**
 * Returns one lane of the last 5888 bytes of a message, after five xors. The lane is xored with the
 * 16 bytes that begin 5869 bytes before it, and likewise 300, 211, 183 and 145 bytes before it.
 * `from` points 300 bytes before the lane's place in the ring.
 */
// @ts-expect-error: a decorator of AssemblyScript.
@inline
function lastLane(from: usize, source: usize): v128 {
  const far = v128.xor(v128.load(source), v128.load(from, 300 + ahead));
  const ab = v128.xor(v128.load(from, 300 - 145), v128.load(from, 300 - 183));
  const cd = v128.xor(v128.load(from, 300 - 211), v128.load(from));
  return v128.xor(far, v128.xor(ab, cd));
}
