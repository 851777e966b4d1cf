/**
 * The first key that an object in `json`, which must be valid, gives twice. `JSON.parse` takes the
 * last of them and says nothing, and other readers may take the first.
 */
export function duplicateKey(json: string): string | undefined {
  /** Keys of each object around the present place; an array has none. */
  const open: Set<string>[] = [];
  // Of valid JSON only strings, and what opens and closes, matter.
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
