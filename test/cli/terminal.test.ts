import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type Ended, shell } from './run-pod.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'pod-terminal-'));
});
afterEach(async () => {
  await shell('$pod down', { cwd: folder });
  rmSync(folder, { recursive: true });
});

const tiny = '--model mlp --steps 3 --global-batch 8 --evaluate 8';

/** Runs `pod` with these words on a pseudo-terminal. */
function onTerminal(words: string, env = ''): Promise<Ended> {
  return shell(`${env} script -qec "$pod ${words}" /dev/null`, { cwd: folder });
}

const isJson = (line: string): boolean => line.startsWith('{"');

describe('pod up --wait', () => {
  test('shows on a terminal what pod train shows, and so does pod logs afterwards', async () => {
    const run = await onTerminal(`up --wait --tpus 1 ${tiny}`);
    expect(run.code).toBe(0);
    for (const text of ['compiled and loaded in', 'step 3/3', 'whole step', 'held-out accuracy']) {
      expect(run.stdout).toContain(text);
    }
    expect(run.stdout).toContain('\x1b[2K');
    expect(run.stdout).not.toContain('"level"');
    const log = await onTerminal('logs');
    expect(log.stdout).toMatch(/^\d\d:\d\d:\d\dZ {2}Cloud TPU 0: joined/m);
    expect(log.stdout).toContain('held-out accuracy');
    expect(log.stdout).not.toContain('"level"');
    for (const raw of [
      await shell('$pod logs', { cwd: folder }),
      await onTerminal('logs --json'),
    ]) {
      const lines = raw.stdout.split(/\r?\n/).filter(Boolean);
      expect(lines.filter((line) => !isJson(line))).toEqual([]);
      expect(JSON.parse(lines.at(-1) ?? '')).toMatchObject({ msg: 'summary' });
    }
  });

  test.each([
    ['in a pipe', (words: string) => shell(`POD_LOG_FORMAT=text $pod ${words}`, { cwd: folder })],
    ['on a terminal with --json', (words: string) => onTerminal(`${words} --json`)],
  ])('%s prints the summary as one line of JSON', async (_, run) => {
    const { code, stdout } = await run(`up --wait --tpus 1 ${tiny}`);
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ msg: 'summary', steps: 3 });
  });

  test('prints no escape sequences on a dumb terminal', async () => {
    const { stdout } = await onTerminal(`up --wait --tpus 1 ${tiny}`, 'TERM=dumb');
    expect(stdout).toContain('held-out accuracy');
    expect(stdout).not.toContain('\x1b');
  });
});

test('pod submit --wait shows the job on a terminal, and JSON in a pipe', async () => {
  const up = await shell('$pod up --serve --tpus 1', { cwd: folder });
  expect(up.code).toBe(0);
  const shown = await onTerminal(`submit --wait -- ${tiny}`);
  expect(shown.code).toBe(0);
  expect(shown.stdout).toMatch(/^job-1\r\n/);
  expect(shown.stdout).toContain('held-out accuracy');
  expect(shown.stdout).not.toContain('"level"');
  const piped = await shell(`$pod submit --wait -- ${tiny}`, { cwd: folder });
  const [name, ...lines] = piped.stdout.trim().split('\n');
  expect(name).toBe('job-2');
  expect(lines.filter((line) => !isJson(line))).toEqual([]);
  const log = await onTerminal('logs job-1');
  expect(log.stdout).toMatch(/^\d\d:\d\d:\d\dZ .*step 3\/3/m);
});
