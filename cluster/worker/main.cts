/**
 * Entry file of the worker program: lets cluster/host/engine.cts check Node and the machine, then
 * loads worker.ts.
 */
import type { Engine } from '../host/engine.cts';

const engine: Engine = require('../host/engine.cjs');
engine.start({ to: 'log', role: 'worker' }, engine.inspect(), () => import('./worker.ts'));
