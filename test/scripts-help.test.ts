import { execFileSync, spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { expect, test } from 'vitest';
import { compiled } from './cluster/compiled.ts';

/** Files in scripts/ that are no programs. Other scripts import them. */
const parts = [
  'command',
  'doc-table',
  'fuzz-assaults',
  'fuzz-inputs',
  'fuzz-line',
  'limits-table',
  'reference-tables',
];

const programs = readdirSync('scripts')
  .filter((name) => name.endsWith('.ts'))
  .map((name) => name.slice(0, -3))
  .filter((name) => !parts.includes(name));

test.each(programs)(
  'scripts/%s.ts has --help, and refuses unknown flags',
  (name) => {
    const script = compiled(`scripts/${name}.js`);
    const help = execFileSync(process.execPath, [script, '--help'], { encoding: 'utf8' });
    expect(help).toMatch(/^Usage: /);
    const { status, stderr } = spawnSync(process.execPath, [script, '--no-such-flag'], {
      encoding: 'utf8',
    });
    expect(stderr).toContain('--no-such-flag');
    expect(status).toBe(2);
  },
  30_000,
);

test('a script that cannot write its output prints one line and exits with code 5', () => {
  const line = '"$0" "$1" --list >/dev/full';
  const { status, stderr } = spawnSync(
    'bash',
    ['-c', line, process.execPath, compiled('scripts/planted-defects.js')],
    { encoding: 'utf8' },
  );
  expect(stderr).toMatch(/^planted-defects: standard output: ENOSPC[^\n]*\n$/);
  expect(status).toBe(5);
});
