#!/usr/bin/env node
/**
 * The `pod` command: checks the engine and the machine, then loads the command itself. Node
 * versions that are too old also parse this file, so it uses only syntax that Node 12 knows; see
 * cluster/host/engine.cts.
 */
import type { Engine } from '../../cluster/host/engine.cts';

const engine: Engine = require('../../cluster/host/engine.cjs');
const findings = engine.inspect();

if (process.argv[2] === 'doctor' && findings.some((it) => !it.ok)) {
  // The full `pod doctor` would report more, but the command cannot be loaded on this engine.
  const isJson = process.argv.slice(3).includes('--json');
  const text = isJson
    ? JSON.stringify(findings, undefined, 2)
    : engine.listing(findings).join('\n');
  process.stdout.write(`${text}\n`);
  process.exitCode = 2;
} else {
  engine.start({ to: 'people' }, findings, () => import('./pod.ts'));
}
