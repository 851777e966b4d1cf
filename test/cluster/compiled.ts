import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { assert } from '../../src/numerics/assert.ts';

/** Threads run the compiled files: `npm test` builds them first. */
export function requireCompiled(): void {
  compiled('cluster/threads/worker.js');
}

/** The path of a compiled file, such as `src/cli/main.js`. */
export function compiled(path: string): string {
  const file = fileURLToPath(new URL(`../../dist/${path}`, import.meta.url));
  assert(existsSync(file), 'dist is missing: run `npm run build`, as `npm test` does');
  return file;
}
