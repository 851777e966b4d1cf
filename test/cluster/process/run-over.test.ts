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

test('a worker that started before the end of the run reads the note, some seconds after the end', async () => {
  const started = uptime() - 1;
  expect(isRunOver(env(started))).toBe(false);
  noteRunOver(env(started));
  expect(isRunOver(env(started))).toBe(false);
  await sleep(2200);
  expect(isRunOver(env(started))).toBe(true);
});

test('a worker ignores the note of an earlier run', async () => {
  noteRunOver(env(uptime() - 1));
  await sleep(2200);
  expect(isRunOver(env(uptime()))).toBe(false);
});

test('processes outside our containers neither write a note nor read one', () => {
  noteRunOver(env(undefined));
  expect(() => readFileSync(join(folder, 'run-over.json'))).toThrow(/ENOENT/);
  writeFileSync(join(folder, 'run-over.json'), '{"boot":"x","overS":1e9}');
  expect(isRunOver(env(undefined))).toBe(false);
});

test('a damaged note and a note of another boot are ignored', () => {
  for (const text of ['', '{', '{"boot":"another","overS":1}', '[]']) {
    writeFileSync(join(folder, 'run-over.json'), text);
    expect(isRunOver(env(0))).toBe(false);
  }
});
