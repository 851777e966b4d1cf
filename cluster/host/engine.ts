import { createRequire } from 'node:module';
import type { Engine } from './engine.cts';

const file = import.meta.url.endsWith('.ts')
  ? '../../dist/cluster/host/engine.cjs'
  : './engine.cjs';

/** Functions of engine.cts, which check Node and the machine. */
export const engine: Engine = createRequire(import.meta.url)(file);
