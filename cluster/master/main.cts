/**
 * Entry point of the master program: checks the JavaScript engine and the machine, then loads
 * master.ts. See cluster/host/engine.cts.
 */
import type { Engine } from '../host/engine.cts';

const engine: Engine = require('../host/engine.cjs');
engine.start({ to: 'log', role: 'master' }, engine.inspect(), () => import('./master.ts'));
