import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { isAlive } from '../../../cluster/host/process-identity.ts';
import { lastErrorIn } from '../../../cluster/process/last-error.ts';
import { LocalWorkers, type LocalWorkersOptions } from '../../../cluster/process/local-workers.ts';
import type { Death } from '../../../cluster/process/pod.ts';
import { readProcesses } from '../../../cluster/process/spawn.ts';
import { requireCompiled } from '../compiled.ts';

requireCompiled();
vi.setConfig({ testTimeout: 60_000 });

let folder: string;
const open: LocalWorkers[] = [];
let deaths: (Death & { readonly tpu: number })[];
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'pod-local-'));
  writeFileSync(join(folder, 'token'), 'a token that only tests know', { mode: 0o600 });
  deaths = [];
});
afterEach(async () => {
  for (const workers of open.splice(0)) workers.close();
  const { all = [] } = readProcesses(folder) ?? {};
  for (const it of all) if (isAlive(it)) process.kill(it.pid, 'SIGKILL');
  while (all.some(isAlive)) await sleep(10);
  rmSync(folder, { recursive: true });
});

function watch(change: Partial<LocalWorkersOptions> & { fail?: string } = {}): LocalWorkers {
  const { fail, ...rest } = change;
  const preload = fileURLToPath(new URL('./fail-worker.cjs', import.meta.url));
  const workers = new LocalWorkers({
    // No master listens on port 1. So the workers look for a master until the test ends them.
    ...{ folder, tpus: 2, controlPort: 1 },
    env: {
      ...process.env,
      POD_TOKEN_FILE: join(folder, 'token'),
      ...(fail && { NODE_OPTIONS: `--require ${preload}`, FAIL_WORKER: fail }),
    },
    died: (tpu, death) => {
      deaths.push({ tpu, ...death });
      return true;
    },
    log: () => undefined,
    ...rest,
  });
  open.push(workers);
  return workers;
}

const pidsOf = (): (number | undefined)[] =>
  (readProcesses(folder)?.workers ?? []).map((it) => it?.pid);

async function until(what: () => boolean): Promise<void> {
  while (!what()) await sleep(10);
}

test('each Cloud TPU has a process, whose death is reported with its cause', async () => {
  watch().startAll();
  const [first, second] = pidsOf();
  expect([first, second].every((pid) => pid !== undefined)).toBe(true);
  process.kill(second ?? 0, 'SIGKILL');
  await until(() => deaths.length > 0);
  expect(deaths).toEqual([{ tpu: 1, pid: second, cause: 'killed by SIGKILL', code: null }]);
});

test('the death of a process that cannot start is reported with its last error', async () => {
  watch({ fail: 'engine' }).startAll();
  await until(() => deaths.length === 2);
  expect(deaths[0]?.cause).toBe(
    'exit code 134: FATAL ERROR: Reached heap limit - JavaScript heap out of memory',
  );
});

test('the next master takes over living processes, and their deaths are reported to it', async () => {
  watch().startAll();
  const before = pidsOf();
  open.splice(0)[0]?.close();
  watch().startAll();
  expect(pidsOf()).toEqual(before);
  process.kill(before[0] ?? 0, 'SIGKILL');
  await until(() => deaths.length > 0);
  expect(deaths).toMatchObject([
    { tpu: 0, pid: before[0], cause: expect.stringMatching(/ended|killed/) },
  ]);
});

test('a process that dies again and again is restarted after longer and longer delays', async () => {
  const died: number[] = [];
  watch({
    tpus: 1,
    fail: 'engine',
    died: () => {
      died.push(performance.now());
      return false;
    },
  }).startAll();
  await until(() => died.length === 6);
  const gaps = died.slice(1).map((at, i) => at - (died[i] ?? 0));
  expect(gaps.at(-1)).toBeGreaterThan(700);
});

test('the death of a replaced process is not reported', async () => {
  const workers = watch({ tpus: 1 });
  workers.startAll();
  const [before = 0] = pidsOf();
  workers.replace(0);
  expect(pidsOf()).not.toEqual([before]);
  process.kill(before, 'SIGKILL');
  await sleep(400);
  expect(deaths).toEqual([]);
});

test('lastErrorIn finds the last error that a process wrote to its log', () => {
  const path = join(folder, 'x.log');
  const line = (level: number, msg: string, code?: string): string =>
    `${JSON.stringify({ level, code, msg })}\n`;
  const before = line(50, 'of another process', 'io');
  writeFileSync(
    path,
    `${before}${line(30, 'hello')}${line(50, 'no room', 'io')}${line(30, 'bye')}`,
  );
  expect(lastErrorIn(path, before.length)).toEqual({ code: 'io', message: 'no room' });
  writeFileSync(path, `${before}${line(30, 'hello')}\n# Fatal error in , line 0\n# OOM\n`);
  expect(lastErrorIn(path, before.length)?.message).toBe('Fatal error in , line 0');
  expect(lastErrorIn(path, 10_000)).toBeUndefined();
  // This long log contains no error, and its last line is incomplete. `lastErrorIn` must not take
  // the incomplete line for an error.
  writeFileSync(path, `${line(30, 'step').repeat(2000)}${line(30, 'step').slice(0, 20)}`);
  expect(lastErrorIn(path, 0)).toBeUndefined();
  expect(lastErrorIn(join(folder, 'none'), 0)).toBeUndefined();
});
