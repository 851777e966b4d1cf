import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { isRunOver, noteRunOver } from '../../../cluster/process/run-over.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'pod-over-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

const uptime = (): number => Number(readFileSync('/proc/uptime', 'utf8').split(' ')[0]);
const env = (startedS: number | undefined) => ({
  POD_TOKEN_FILE: join(folder, 'pod-token'),
  POD_STARTED_S: startedS === undefined ? undefined : String(startedS),
});

test('a worker that started before the run was over learns it, a little later than the master ends', async () => {
  const started = uptime() - 1;
  expect(isRunOver(env(started))).toBe(false);
  noteRunOver(env(started));
  expect(isRunOver(env(started))).toBe(false);
  await sleep(2200);
  expect(isRunOver(env(started))).toBe(true);
});

test('the note of an earlier run means nothing to a worker of the next', async () => {
  noteRunOver(env(uptime() - 1));
  await sleep(2200);
  expect(isRunOver(env(uptime()))).toBe(false);
});

test('processes that are in no container of ours neither leave a note nor read one', () => {
  noteRunOver(env(undefined));
  expect(() => readFileSync(join(folder, 'run-over.json'))).toThrow(/ENOENT/);
  writeFileSync(join(folder, 'run-over.json'), '{"boot":"x","overS":1e9}');
  expect(isRunOver(env(undefined))).toBe(false);
});

test('a note that is damaged, or of another boot, is none', () => {
  for (const text of ['', '{', '{"boot":"another","overS":1}', '[]']) {
    writeFileSync(join(folder, 'run-over.json'), text);
    expect(isRunOver(env(0))).toBe(false);
  }
});
