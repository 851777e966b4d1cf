import { existsSync } from 'node:fs';
import { assert } from '../../src/numerics/assert.ts';

/** Threads run the compiled files: `npm test` builds them first. */
export function requireCompiled(): void {
  const entry = new URL('../../dist/cluster/threads/worker.js', import.meta.url);
  assert(existsSync(entry), 'dist is missing: run `npm run build`, as `npm test` does');
}
