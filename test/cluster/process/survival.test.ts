import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { parseRecord } from '../../../cluster/master/log-record.ts';
import { Token } from '../../../cluster/net/token.ts';
import { Lobby } from '../../../cluster/process/lobby.ts';
import { openProcessPod, type ProcessPod } from '../../../cluster/process/pod.ts';
import { trainOptions } from '../../../src/cli/options.ts';
import type { Report } from '../../../src/experiment/event.ts';
import { train } from '../../../src/experiment/train.ts';
import type { Note } from '../../../src/pod/master/action.ts';
import { requireCompiled } from '../compiled.ts';
import { fieldOf, newFolder, pod, processesOf, startProgram, untilSaid } from './pod.ts';

beforeAll(requireCompiled);
// The limits are long because each test starts several processes on a machine that may be busy.
vi.setConfig({ testTimeout: 120_000, hookTimeout: 60_000 });

const flags = { tpus: '2', model: 'mlp', steps: '40', evaluate: '256', recovery: 'replace' };
const words = Object.entries(flags).flatMap(([key, value]) => [`--${key}`, value]);

let folder = '';
let undisturbed = '';
beforeAll(async () => {
  undisturbed = String(fieldOf((await pod('train', ...words, '--json').ran).out, 'weightsDigest'));
});
afterEach(() => rmSync(folder, { recursive: true }));

const secret = 'a token for these tests';

/** A run in a pod of processes, some of which end. No process is started again. */
interface Disturbed {
  readonly workers: number;
  /** Longest time, in ms, that the master waits for a replacement. */
  readonly graceMsLimit: number;
  /** Called after step 5 with the process ids of Cloud TPUs 0 and 1. */
  readonly disturb: (pids: readonly number[]) => void;
}

/** Trains, and returns the report, the notes about the recovery, and the exit codes. */
async function trainWith({ workers, graceMsLimit, disturb }: Disturbed): Promise<{
  readonly report: Report;
  readonly notes: readonly Note[];
  readonly codes: readonly (number | null)[];
}> {
  folder = newFolder();
  const tokenFile = join(folder, 'token');
  writeFileSync(tokenFile, secret, { mode: 0o600 });
  const log = (): void => undefined;
  const token = new Token(Buffer.from(secret));
  const lobby = await Lobby.open({ token, host: '127.0.0.1', port: 0, log });
  const programs = Array.from({ length: workers }, (_, i) =>
    startProgram('cluster/worker/main', [], {
      ...{ POD_MASTER: `127.0.0.1:${lobby.port}`, POD_TOKEN_FILE: tokenFile },
      ...{ POD_TENSOR_PORT: '0', POD_HOST: '127.0.0.1', TPU_WORKER_ID: String(i) },
      POD_STATUS_FILE: join(folder, `${i}.status`),
    }),
  );
  const limits = { startMsLimit: 30_000, graceMsLimit };
  const notes: Note[] = [];
  let opened: ProcessPod | undefined;
  const end = await train(trainOptions(flags).config, {
    now: () => performance.now(),
    tell(event) {
      if (event.kind === 'note') notes.push(event.note);
      if (event.kind !== 'step' || event.step !== 5) return;
      const pids = (opened?.status().tpus ?? []).flatMap(({ pid }) => (pid === null ? [] : [pid]));
      if (pids.length < 2) throw new Error('a Cloud TPU has no process');
      disturb(pids);
    },
    openPod: async (options) => {
      opened = await openProcessPod({ ...options, ...limits, relaxed: true, lobby, log });
      return opened;
    },
  });
  await lobby.dismiss({ expected: 0, withinMs: 0, lingerMs: 0 });
  const codes = await Promise.all(programs.map(({ ran }) => ran.then(({ code }) => code)));
  if (end.kind !== 'done') throw new Error('no report');
  return { report: end.report, notes, codes };
}

/** Trains in a pod of `workers` processes, and kills the process of Cloud TPU 0 after step 5. */
async function lose(
  workers: number,
  graceMsLimit: number,
): Promise<{ report: Report; notes: readonly Note[] }> {
  const disturb = ([pid = 0]: readonly number[]): void => void process.kill(pid, 'SIGKILL');
  const { codes, ...seen } = await trainWith({ workers, graceMsLimit, disturb });
  expect([...codes].sort()).toEqual([...Array.from({ length: workers - 1 }, () => 0), null]);
  return seen;
}

describe('the Cloud TPU of a worker that nobody starts again', () => {
  test('is adopted by another worker', async () => {
    const { report, notes } = await lose(2, 1000);
    expect(report.weightsDigest).toBe(undisturbed);
    expect(notes.map(({ event }) => event)).toEqual([
      ...['lost', 'adopted', 'replaced', 'restored', 'resumed'],
    ]);
    expect(notes.find(({ event }) => event === 'adopted')?.cause).toMatch(
      /no replacement joined within 1000 ms: the worker of Cloud TPU 1 .* hosts Cloud TPU 0 /,
    );
  });

  test('is given to a spare worker', async () => {
    const { report, notes } = await lose(3, 20_000);
    expect(report.weightsDigest).toBe(undisturbed);
    expect(notes.map(({ event }) => event)).toEqual(['lost', 'replaced', 'restored', 'resumed']);
  });
});

test('workers that all fell silent join again with their weights, and nothing is rolled back', async () => {
  const { report, notes, codes } = await trainWith({
    ...{ workers: 2, graceMsLimit: 30_000 },
    disturb(pids) {
      for (const pid of pids) process.kill(pid, 'SIGSTOP');
      setTimeout(() => {
        for (const pid of pids) process.kill(pid, 'SIGCONT');
      }, 5000);
    },
  });
  expect(codes).toEqual([0, 0]);
  expect(report.weightsDigest).toBe(undisturbed);
  const events = notes.map(({ event }) => event);
  expect(events.filter((event) => event === 'lost')).toHaveLength(2);
  expect(events).not.toContain('rolled-back');
  expect(events).not.toContain('restored');
});

test('a master that is killed twice: each next master goes on with the same workers', async () => {
  folder = newFolder();
  const { ran } = pod('up', '--wait', '--dir', folder, ...words);
  for (const step of ['"step":5,', '"step":20,']) {
    await untilSaid(join(folder, 'master.log'), step);
    process.kill(processesOf(folder).master, 'SIGKILL');
  }
  const { code, out } = await ran;
  expect(code).toBe(0);
  expect(fieldOf(out, 'weightsDigest')).toBe(undisturbed);
  const records = readFileSync(join(folder, 'ended-commits.jsonl'), 'utf8').split('\n');
  const commits = records.flatMap((line) => {
    const record = parseRecord(line);
    return record !== undefined && 'commit' in record ? [record.commit.step] : [];
  });
  expect(commits).toEqual(Array.from({ length: 40 }, (_, i) => i + 1));
  for (const tpu of [0, 1]) {
    const said = readFileSync(join(folder, `tpu-${tpu}.log`), 'utf8');
    expect(said.match(/"msg":"welcome-back"/g)?.length).toBe(2);
  }
});
