const lanes = 16;
const canonicalNan = 0x7fc0_0000;

/**
 * Returns a 64-bit digest of a sequence of f32 words. If the digests of two copies of the weights
 * are equal, the program assumes that the copies have the same bits. All NaNs count as equal; −0
 * and +0 differ. The digest is not cryptographic. All steps compute modulo 2^32:
 *
 * 1. There are 16 lanes. Word i goes to lane i mod 16. Zero words fill the last group of 16 words.
 * 2. A lane has two words of state, p and q. Initially p is the lower half of `seed` plus the index
 *    of the lane, and q is the upper half of `seed` plus the index of the lane.
 * 3. A word w updates p and q of its lane: p ← x ^ (x >>> 15) with x = (p ^ w) · 0x9e3779b1, and q
 *    ← y ^ (y >>> 13) with y = (q + w) · 0x85ebca77. Both updates are one-to-one.
 * 4. After the last word, the p of all lanes are combined in a hash h. First, h is the number of
 *    words. Then, for lane 0 to lane 15, h becomes `mixed(h ^ p)`, with the p of that lane. The
 *    final h is the lower half of the result.
 * 5. The q of all lanes give the upper half of the result in the same way, but h starts as the
 *    complement of the number of words.
 *
 * To digest several arrays, pass the digest of each array as the seed for the next array. `digest`
 * in chip/kernels/assembly/vector.ts is a faster implementation of the same function.
 */
export function digest(words: Uint32Array, seed: bigint = 0n): bigint {
  const first = new Int32Array(lanes).map((_, lane) => Number(seed & 0xffff_ffffn) + lane);
  const second = new Int32Array(lanes).map((_, lane) => Number(seed >> 32n) + lane);
  const filled = Math.ceil(words.length / lanes) * lanes;
  for (let i = 0; i < filled; i++) {
    const word = canonical(i < words.length ? words[i]! : 0);
    const lane = i % lanes;
    const x = Math.imul(first[lane]! ^ word, 0x9e37_79b1);
    first[lane] = x ^ (x >>> 15);
    const y = Math.imul(second[lane]! + word, 0x85eb_ca77);
    second[lane] = y ^ (y >>> 13);
  }
  const low = first.reduce((hash, state) => mixed(hash ^ state), words.length | 0);
  const high = second.reduce((hash, state) => mixed(hash ^ state), ~words.length);
  return (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0);
}

/** Returns a digest as 16 hexadecimal digits, the form in logs and messages. */
export function digestText(value: bigint): string {
  return value.toString(16).padStart(16, '0');
}

function canonical(word: number): number {
  return (word & 0x7fff_ffff) > 0x7f80_0000 ? canonicalNan : word;
}

/**
 * Mixes the bits of a hash, so that every bit of the argument affects every bit of the result. This
 * is the finalizer of MurmurHash3. [Appleby]
 */
function mixed(hash: number): number {
  let h = Math.imul(hash ^ (hash >>> 16), 0x85eb_ca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2_ae35);
  return h ^ (h >>> 16);
}
