import { createRequire } from 'node:module';
import type { Engine } from './engine.cts';

const file = import.meta.url.endsWith('.ts')
  ? '../../dist/cluster/host/engine.cjs'
  : './engine.cjs';

/** What a program needs of the engine and the machine; see engine.cts. */
export const engine: Engine = createRequire(import.meta.url)(file);
