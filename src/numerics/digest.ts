const lanes = 16;
const canonicalNan = 0x7fc0_0000;

/**
 * A 64-bit digest of f32 words in order, to tell whether two copies of the weights are the same
 * to the bit; every NaN counts as one and the same, −0 and +0 differ. Not cryptographic.
 *
 * Word i goes to lane i mod 16; the last group is filled up with zero words. A lane holds two
 * words of state, which start at the halves of `seed` plus the lane's number, and take in w by
 * p ← x ^ (x >>> 15) with x = (p ^ w) · 0x9e3779b1, and q ← y ^ (y >>> 13) with
 * y = (q + w) · 0x85ebca77, each one-to-one. The lanes' p, mixed in one after another starting
 * from the count, are the lower half of the result; the q, starting from its complement, the
 * upper. Digests chain: the digest of one array is the seed for the next.
 *
 * `digest` in chip/kernels/assembly/vector.ts is the same function, fast.
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

/** A digest as people see it: 16 hexadecimal digits. */
export function digestText(value: bigint): string {
  return value.toString(16).padStart(16, '0');
}

function canonical(word: number): number {
  return (word & 0x7fff_ffff) > 0x7f80_0000 ? canonicalNan : word;
}

/** The finalizer of MurmurHash3 [Appleby]: each bit of the input reaches each of the output. */
function mixed(hash: number): number {
  let h = Math.imul(hash ^ (hash >>> 16), 0x85eb_ca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2_ae35);
  return h ^ (h >>> 16);
}
