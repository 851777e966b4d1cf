/** Two random or key words of 32 bits. */
export type Pair = readonly [number, number];

/** Rotations of the rounds of Threefry 2×32. Groups of four rounds take the two lists in turn. */
const rotations = [
  [13, 15, 26, 6],
  [17, 29, 16, 24],
] as const;

/** Returns the two random u32 of one block of Threefry 2×32-20. [Salmon et al., SC'11; Random123] */
export function threefry([counter0, counter1]: Pair, [key0, key1]: Pair): Pair {
  const keys = [key0 | 0, key1 | 0, 0x1bd1_1bda ^ key0 ^ key1] as const;
  let x0 = (counter0 + keys[0]) | 0;
  let x1 = (counter1 + keys[1]) | 0;
  for (let group = 0; group < 5; group++) {
    for (const rotation of rotations[group % 2]!) {
      x0 = (x0 + x1) | 0;
      x1 = ((x1 << rotation) | (x1 >>> (32 - rotation))) ^ x0;
    }
    x0 = (x0 + keys[(group + 1) % 3]!) | 0;
    x1 = (x1 + keys[(group + 2) % 3]! + group + 1) | 0;
  }
  return [x0 >>> 0, x1 >>> 0];
}
