import { assert } from '../numerics/assert.ts';
import { philoxInto, stream } from '../numerics/random.ts';

/**
 * Permutation of [0, size) that is computed, not stored: {@link permute} sends an index through a
 * Feistel network. The network splits the index into a low half of `lowBits` bits and a high half
 * of `highBits` bits. Each round mixes one half into the other half, with one of the `keys`.
 */
export interface Permutation {
  readonly size: number;
  readonly lowBits: number;
  readonly highBits: number;
  readonly keys: Uint32Array;
}

/** Returns the order of epoch `epoch` (below 2^32) of a data set of `size` samples (1 to 2^32). */
export function permutation(seed: number, epoch: number, size: number): Permutation {
  assert(Number.isInteger(size) && size >= 1 && size <= 2 ** 32, `permutation of ${size}`);
  assert(Number.isInteger(epoch) && epoch >= 0 && epoch < 2 ** 32, `epoch ${epoch}`);
  const bits = 32 - Math.clz32(size - 1);
  const [key0, key1] = stream(seed, 'order');
  const keys = new Uint32Array(rounds);
  for (let round = 0; round < rounds; round += 4) {
    philoxInto(keys, round, epoch, round, 0, 0, key0, key1);
  }
  return { size, lowBits: bits >>> 1, highBits: bits - (bits >>> 1), keys };
}

/**
 * Returns the index to which `order` maps `index`. The Feistel network permutes the numbers below
 * the smallest power of two that is at least `size`. A result of `size` or more goes through the
 * network again until it is below `size`, so the map is a permutation of [0, size). On average, an
 * index goes through the network at most twice. [Luby, Rackoff 1988; Black, Rogaway 2002, cycle
 * walking]
 */
export function permute(order: Permutation, index: number): number {
  assert(index >= 0 && index < order.size, `index ${index} of ${order.size}`);
  let at = index;
  do at = network(order, at);
  while (at >= order.size);
  return at;
}

const rounds = 12;

function network({ lowBits, highBits, keys }: Permutation, index: number): number {
  const lowMask = (1 << lowBits) - 1;
  const highMask = (1 << highBits) - 1;
  let low = index & lowMask;
  let high = index >>> lowBits;
  for (let round = 0; round < rounds; round += 2) {
    high ^= mixed(low ^ keys[round]!) & highMask;
    low ^= mixed(high ^ keys[round + 1]!) & lowMask;
  }
  return ((high << lowBits) | low) >>> 0;
}

/** Mixes a word so that every input bit affects all output bits. [Appleby, MurmurHash3, fmix32] */
function mixed(word: number): number {
  let it = word ^ (word >>> 16);
  it = Math.imul(it, 0x85eb_ca6b);
  it = Math.imul(it ^ (it >>> 13), 0xc2b2_ae35);
  return it ^ (it >>> 16);
}
