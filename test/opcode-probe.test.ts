import { spawnSync } from 'node:child_process';
import { beforeAll, expect, test } from 'vitest';
import { requireCompiled } from './cluster/compiled.ts';

beforeAll(requireCompiled);

test('a new opcode is four entries, and the compiler refuses it if one is missing', () => {
  const args = ['dist/scripts/opcode-probe.js'];
  const { status, stdout } = spawnSync(process.execPath, args, { encoding: 'utf8' });
  expect(stdout).toContain('right: with 4 entries the opcode is complete');
  expect(stdout.trimEnd().split('\n').at(-1)).toBe('4 places, 4 refusals');
  expect(status).toBe(0);
}, 240_000);
