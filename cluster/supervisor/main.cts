/**
 * Entry file of the supervisor program: checks Node and the machine, then loads program.ts. See
 * cluster/host/engine.cts.
 */
import type { Engine } from '../host/engine.cts';

const engine: Engine = require('../host/engine.cjs');
engine.start({ to: 'log', role: 'supervisor' }, engine.inspect(), () => import('./program.ts'));
