/**
 * Returns the first key that occurs twice in one object of `json`; undefined if there is none.
 * `json` must be valid. `JSON.parse` silently takes the last value of such a key, and other readers
 * may take the first.
 */
export function duplicateKey(json: string): string | undefined {
  /**
   * The keys found so far in each object around the present position; an empty set for an array.
   */
  const open: Set<string>[] = [];
  // In valid JSON, only strings and brackets are needed to find the keys.
  for (const [token] of json.matchAll(/"(?:[^"\\]|\\.)*"\s*:?|[{}[\]]/g)) {
    if (token === '{' || token === '[') open.push(new Set());
    else if (token === '}' || token === ']') open.pop();
    else if (token.endsWith(':')) {
      const key = JSON.parse(token.slice(0, -1)) as string;
      const keys = open.at(-1);
      if (keys?.has(key)) return key;
      keys?.add(key);
    }
  }
  return undefined;
}
