/**
 * Returns the first key that occurs twice in one object of the valid JSON text `json`; undefined if
 * there is none. A repeated key is ambiguous: `JSON.parse` silently takes the last of the two
 * values, and other readers may take the first.
 */
export function duplicateKey(json: string): string | undefined {
  /**
   * Stack of the objects and arrays that are open at the current position. An object is represented
   * by the set of its keys so far, and an array by an empty set.
   */
  const open: Set<string>[] = [];
  // In valid JSON, it is enough to look at strings and brackets to find the keys.
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
