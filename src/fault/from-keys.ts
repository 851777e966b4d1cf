/** Returns a record with the given keys. The value of a key is what `make` returns for the key. */
export function fromKeys<K extends string, V>(
  keys: readonly K[],
  make: (key: K) => V,
): Record<K, V> {
  return Object.fromEntries(keys.map((key) => [key, make(key)])) as Record<K, V>;
}
