import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { assert } from '../../src/numerics/assert.ts';

/** Fails if `dist` (compiled files, which threads run) is missing. `npm test` builds `dist`. */
export function requireCompiled(): void {
  compiled('cluster/runtime/worker.js');
}

/** Returns the path of a compiled file, such as `src/cli/main.js`. Fails if it is missing. */
export function compiled(path: string): string {
  const file = fileURLToPath(new URL(`../../dist/${path}`, import.meta.url));
  assert(existsSync(file), 'dist is missing: run `npm run build`, as `npm test` does');
  return file;
}
