#!/usr/bin/env node
/**
 * Entry of the `pod` command: checks the JavaScript engine and the machine, then loads `pod.ts`. A
 * version of Node that is too old must still be able to parse this file to report the problem, so
 * this file uses only syntax that Node 12 knows; see cluster/host/engine.cts.
 */
import type { Engine } from '../../cluster/host/engine.cts';

const engine: Engine = require('../../cluster/host/engine.cjs');
const findings = engine.inspect();

if (process.argv[2] === 'doctor' && findings.some((it) => !it.ok)) {
  // The engine does not meet a requirement, so it may be unable to load the other checks of
  // `pod doctor`. Only the findings about the engine are printed.
  const isJson = process.argv.slice(3).includes('--json');
  const text = isJson
    ? JSON.stringify(findings, undefined, 2)
    : engine.listing(findings).join('\n');
  process.stdout.write(`${text}\n`);
  process.exitCode = 2;
} else {
  engine.start({ to: 'people' }, findings, () => import('./pod.ts'));
}
