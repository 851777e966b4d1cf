/**
 * Entry file of the worker program: checks Node and the machine, then loads worker.ts. See
 * cluster/host/engine.cts.
 */
import type { Engine } from '../host/engine.cts';

const engine: Engine = require('../host/engine.cjs');
engine.start({ to: 'log', role: 'worker' }, engine.inspect(), () => import('./worker.ts'));
