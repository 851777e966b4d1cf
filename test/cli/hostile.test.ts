import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { compiled } from '../cluster/compiled.ts';
import { type Ended, endOf } from './run-pod.ts';

const folder = mkdtempSync(join(tmpdir(), 'pod-hostile-'));
afterAll(() => rmSync(folder, { recursive: true }));
const token = join(folder, 'token');
writeFileSync(token, 'a token of enough characters', { mode: 0o600 });

/**
 * Text that would clear the screen of a terminal, set its title, break the line, reverse the
 * writing direction, and begin an escape sequence.
 */
const escapes = '\u001b[2J\u001b]0;title\u0007\n\rA\u202eB\u009b31m\u007f';
const long = 'x'.repeat(120_000);

const commands: Readonly<Record<string, readonly string[]>> = {
  'escapes as a command': [escapes],
  'escapes as a flag': ['train', `--${escapes}`],
  'escapes as a value': ['train', '--tpus', escapes],
  'escapes as a data set': ['train', '--data', `mnist:${escapes}`],
  'escapes as a folder': ['status', '--dir', escapes],
  'escapes as a file of settings': ['train', '--config', escapes],
  'escapes as a master': ['jobs', '--api', escapes, '--token-file', token],
  'a long command': [long],
  'a long flag': ['train', `--${long}`],
  'a long value': ['train', '--topology', long],
  'a long path': ['up', '--dir', `/tmp/${long}`],
  'a long master': ['jobs', '--api', `http://${long}`, '--token-file', token],
  '20,000 flags': ['train', ...Array.from({ length: 20_000 }, (_, i) => `--steps=${i}x`)],
  '20,000 unknown flags': ['train', ...Array.from({ length: 20_000 }, (_, i) => `--f${i}`)],
  '20,000 words': ['train', ...Array(20_000).fill('word')],
  'a flag of JavaScript': ['train', '--__proto__', '1'],
};

test('every hostile command line is refused in one short line without control characters', async () => {
  const names = Object.keys(commands);
  // Four processes run at a time.
  for (let at = 0; at < names.length; at += 4) {
    const some = names.slice(at, at + 4);
    const all = await Promise.all(some.map((name) => run(commands[name] ?? [])));
    for (const [i, { code, stdout, stderr }] of all.entries()) {
      expect([some[i], stdout, stderr]).toEqual([
        some[i],
        '',
        expect.stringMatching(/^pod: [a-z-]+: [^\p{Cc}\u202a-\u202e]{5,520}\n$/u),
      ]);
      expect([some[i], code]).toEqual([some[i], expect.toBeOneOf([2, 3, 5])]);
      expect(stderr).not.toMatch(/mistake/);
    }
  }
}, 120_000);

test('hostile environment variables are refused in one short line without control characters', async () => {
  const all = await Promise.all(
    [escapes, long, ''].map((text) => run(['jobs'], { POD_API: text, POD_TOKEN_FILE: token })),
  );
  for (const { code, stderr } of all) {
    expect(code).toBe(2);
    expect(stderr).toMatch(
      /^pod: bad-flag: POD_API: expected http:\/\/HOST:PORT, found "[^\p{Cc}]{0,200}\n$/u,
    );
  }
});

test('pod up refuses a wrong environment variable before it changes anything on disk', async () => {
  const dir = join(folder, 'no-pod');
  const { code, stderr } = await run(['up', '--dir', dir], { POD_MASTER_RESTARTS: 'often' });
  expect(code).toBe(2);
  expect(stderr).toMatch(
    /^pod: bad-config: POD_MASTER_RESTARTS: expected a whole number .*"often"\n$/,
  );
  expect(existsSync(dir)).toBe(false);
});

function run(words: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<Ended> {
  return endOf(
    spawn(process.execPath, [compiled('src/cli/main.cjs'), ...words], {
      cwd: folder,
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    }),
  );
}
