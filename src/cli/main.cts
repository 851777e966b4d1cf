#!/usr/bin/env node
/**
 * The `pod` command: checks the engine and the machine, then loads the command itself. Engines that
 * are too old read this file as well; see cluster/host/engine.cts.
 */
import type { Engine } from '../../cluster/host/engine.cts';

const engine: Engine = require('../../cluster/host/engine.cjs');
const findings = engine.inspect();

if (process.argv[2] === 'doctor' && findings.some((it) => !it.ok)) {
  // The command itself could say more, but it cannot be loaded.
  const isJson = process.argv.slice(3).includes('--json');
  const text = isJson
    ? JSON.stringify(findings, undefined, 2)
    : engine.listing(findings).join('\n');
  process.stdout.write(`${text}\n`);
  process.exitCode = 2;
} else {
  engine.start({ to: 'people' }, findings, () => import('./pod.ts'));
}
