/**
 * Entry file of the supervisor program: lets cluster/host/engine.cts check Node and the machine,
 * then loads program.ts.
 */
import type { Engine } from '../host/engine.cts';

const engine: Engine = require('../host/engine.cjs');
engine.start({ to: 'log', role: 'supervisor' }, engine.inspect(), () => import('./program.ts'));
