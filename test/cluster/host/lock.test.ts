import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdtempSync, openSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { holderOf, lockFile, lockFolder, lockOpened } from '../../../cluster/host/lock.ts';
import { requireCompiled } from '../compiled.ts';

requireCompiled();

let folder: string;
let owner: ChildProcess | undefined;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'pod-lock-'));
});
afterEach(() => {
  owner?.kill('SIGKILL');
  owner = undefined;
  rmSync(folder, { recursive: true });
});

async function lockElsewhere(): Promise<ChildProcess> {
  const script = fileURLToPath(new URL('./locker.mjs', import.meta.url));
  const child = spawn(process.execPath, [script, folder], { stdio: ['ignore', 'pipe', 'inherit'] });
  owner = child;
  await once(child.stdout, 'data');
  return child;
}

test('a folder that another process holds is refused, and the message names that process', async () => {
  const { pid } = await lockElsewhere();
  expect(() => lockFolder(folder, 'pod train')).toThrow(
    expect.objectContaining({
      code: 'in-use',
      exitCode: 2,
      message: expect.stringContaining(`${folder}: in use by a test (pid ${pid}, since `),
    }),
  );
  expect(holderOf(folder)).toContain(`a test (pid ${pid}`);
});

test('a lock is free after its owner is killed', async () => {
  const child = await lockElsewhere();
  child.kill('SIGKILL');
  await once(child, 'exit');
  expect(holderOf(folder)).toBeUndefined();
  lockFolder(folder, 'pod train').release();
});

test('a lock file that names a living process does not hold the folder without the lock', () => {
  const alive = { pid: process.ppid, start: '', host: 'here', use: 'x', since: '2026-01-01T00:00' };
  writeFileSync(join(folder, lockFile), JSON.stringify(alive));
  const lock = lockFolder(folder, 'pod train');
  expect(holderOf(folder)).toContain(`pod train (pid ${process.pid}`);
  lock.release();
  expect(holderOf(folder)).toBeUndefined();
});

test('a second lock in the same process is refused as well', () => {
  const lock = lockFolder(folder, 'pod train');
  expect(() => lockFolder(folder, 'pod train')).toThrow(/in use by pod train/);
  lock.release();
  lockFolder(folder, 'pod train').release();
});

test('holderOf changes nothing in a folder', () => {
  expect(holderOf(folder)).toBeUndefined();
  expect(readdirSync(folder)).toEqual([]);
});

test('an opened file can be locked by one descriptor at a time', () => {
  const path = join(folder, 'run.log');
  const [first, second] = [openSync(path, 'a'), openSync(path, 'a')];
  lockOpened(first, path);
  expect(() => lockOpened(second, path)).toThrow(
    /run\.log: in use by (process \d+|another process);/,
  );
  closeSync(first);
  lockOpened(second, path);
  closeSync(second);
});

test('a lock file that cannot be made is reported in one line', () => {
  const missing = join(folder, 'none');
  expect(() => lockFolder(missing, 'pod train')).toThrow(
    expect.objectContaining({ code: 'io', message: expect.stringMatching(/could not be locked/) }),
  );
});
