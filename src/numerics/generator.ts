/** Returns the next number of a sequence, uniform in [0, 1). */
export type Random = () => number;

/**
 * Returns a generator of numbers, uniform in [0, 1), for tests, faults and simulations. The same
 * seed gives the same numbers on every machine. [mulberry32, Tommy Ettinger 2017]
 */
export function mulberry32(seed: number): Random {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b_79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
