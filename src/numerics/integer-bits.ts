/** Returns the lowest `bits` bits of an integer as a signed number. `bits` is at most 32. */
export function signedBits(value: number, bits: number): number {
  return (value << (32 - bits)) >> (32 - bits);
}

/** Returns the lowest `bits` bits of an integer as an unsigned number. `bits` is at most 32. */
export function unsignedBits(value: number, bits: number): number {
  return (value << (32 - bits)) >>> (32 - bits);
}
