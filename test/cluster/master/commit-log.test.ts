import { execFile } from 'node:child_process';
import {
  appendFileSync,
  mkdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { afterEach, describe, expect, test } from 'vitest';
import { type CommitLog, openCommitLog } from '../../../cluster/master/commit-log.ts';
import { LogContents, parseRecord } from '../../../cluster/master/log-record.ts';
import { trainOptions } from '../../../src/cli/options.ts';
import { openDataset } from '../../../src/data/open.ts';
import type { TrainConfig } from '../../../src/experiment/config.ts';
import type { Report, StepCommitted } from '../../../src/experiment/event.ts';
import { identityOf, keyOf, type RunKey } from '../../../src/experiment/same-run.ts';
import { emptyDirectory } from '../../experiment/checkpoint/memory-files.ts';
import { requireCompiled } from '../compiled.ts';
import { newFolder } from '../process/pod.ts';
import { MemoryCommitFiles } from './memory-commit-files.ts';

requireCompiled();

const folders: string[] = [];
const opened: CommitLog[] = [];
afterEach(() => {
  for (const log of opened.splice(0)) log.close();
  for (const made of folders.splice(0)) rmSync(made, { recursive: true });
});

const newline = 0x0a;
const { config } = trainOptions({ model: 'mlp' });
const report = { weightsDigest: '00000000000000ab', steps: 3 } as Report;

function newPath(): string {
  const made = newFolder();
  folders.push(made);
  return join(made, 'deep', 'commits.jsonl');
}

function open(path: string, run = config): CommitLog {
  const log = openCommitLog(path, run);
  opened.push(log);
  return log;
}

function step(number: number, more: Partial<StepCommitted> = {}): StepCommitted {
  return {
    ...{ kind: 'step', step: number, steps: 9, epoch: number / 7, loss: 1 / number },
    ...{ accuracy: 0.25, learningRate: 0.1, digest: `${number}`.padStart(16, '0') },
    ...{ wallMs: 12.5, imagesPerSecond: 1e4 / 3 },
    phaseMs: { infeed: 0, compute: 1, 'all-reduce': 2, update: 3, outfeed: 4, commit: 5 },
    ...more,
  };
}

function stepsOf(log: CommitLog): number[] {
  return log.past().history.map((it) => it.step);
}

test('each change of generation between two commits counts as a recovery, also by a new master', () => {
  const path = newPath();
  const first = open(path);
  for (const [number, generation] of [
    [1, 2],
    [2, 2],
    [3, 4],
  ] as const) {
    first.commit(step(number), generation);
  }
  expect(open(path).past().recoveries).toBe(1);
  const second = open(path);
  second.commit(step(4), second.past().generation + 1);
  expect(open(path).past().recoveries).toBe(2);
});

/** Writes a commit log with commits and generations of two masters. Returns its path. */
function written(): string {
  const path = newPath();
  const first = open(path);
  first.commit(step(1), 1);
  first.beginGeneration(2);
  first.commit(step(2), 2);
  open(path).commit(step(3), 3);
  return path;
}

describe('the next master finds', () => {
  test('every field of every step, and the last membership', () => {
    const path = written();
    const log = open(path);
    expect(log.past()).toMatchObject({ generation: 3, history: [step(1), step(2), step(3)] });
    expect(open(path).past().generation).toBe(4);
  });

  test('the slowest Cloud TPU of a step, also in lines of versions that do not have its effect', () => {
    const slowest = { tpu: 1, ownMs: 30, othersMs: 10.5 };
    const timing = { slowestPhase: 'update', slowestSince: 1, waitMs: 20, causedMs: 19.5 } as const;
    const path = newPath();
    const first = open(path);
    const history = [step(1), step(2, { slowest }), step(3, { slowest, timing })];
    for (const it of history) first.commit(it, 1);
    expect(open(path).past().history).toEqual(history);
  });

  test('a loss that is NaN', () => {
    const path = newPath();
    open(path).commit(step(1, { loss: Number.NaN }), 1);
    expect(open(path).past().history).toEqual([step(1, { loss: Number.NaN })]);
  });

  test('a committed step, which is not written again and must have the same bits', () => {
    const path = written();
    const log = open(path);
    const before = readFileSync(path);
    log.commit(step(2), 5);
    expect(readFileSync(path)).toEqual(before);
    const other = { digest: 'f'.repeat(16) };
    expect(() => log.commit(step(2, other), 5)).toThrow(
      /^step 2, run again: expected weights 0+2, .* found f+$/,
    );
  });

  test('steps after a checkpoint, also with a gap before them', () => {
    const path = written();
    const log = open(path);
    log.commit(step(7), 4);
    log.commit(step(8), 4);
    expect(stepsOf(open(path))).toEqual([1, 2, 3, 7, 8]);
  });

  test('the end of the run, and leaves the log as it is', () => {
    const path = written();
    open(path).finish(report);
    const before = readFileSync(path);
    const log = open(path);
    expect(log.finished).toEqual(report);
    expect(log.failed).toBeNull();
    expect(stepsOf(log)).toEqual([1, 2, 3]);
    expect(readFileSync(path)).toEqual(before);
    const failing = newPath();
    open(failing).fail('superseded', 'no failure of the run');
    open(failing).fail('diverged', 'step 4: expected a finite loss');
    expect(open(failing).failed).toEqual({
      code: 'diverged',
      message: 'step 4: expected a finite loss',
    });
  });

  test('only the generations of another run', () => {
    const path = written();
    open(path).finish(report);
    const other = open(path, { ...config, seed: 1 });
    expect(other.past()).toMatchObject({ generation: 4, history: [] });
    expect(other.finished).toBeNull();
    other.commit(step(1), 5);
    expect(stepsOf(open(path, { ...config, seed: 1 }))).toEqual([1]);
    expect(open(path).past()).toMatchObject({ generation: 6, history: [] });
  });
});

describe('another run', () => {
  const digits = openDataset('digits', 0).train;
  const keyOfRun = (change: Partial<TrainConfig>): RunKey =>
    keyOf(identityOf({ ...config, ...change }, digits, null));

  test('settings that do not change the bits leave the run the same', () => {
    const path = newPath();
    const first = openLog(path, keyOfRun({}));
    first.commit(step(1), 1);
    const same: Partial<TrainConfig>[] = [
      { evaluate: 8 },
      { mxu: 'systolic' },
      { recovery: 'slice-restart' },
      { length: { unit: 'epochs', epochs: (100 * 256) / 60_000 } },
      { data: 'digits:60000' },
    ];
    for (const change of same) {
      const log = openLog(path, keyOfRun(change));
      expect([log.abandoned, stepsOf(log)]).toEqual([null, [1]]);
    }
  });

  test('an unfinished run is reported as abandoned when another run begins', () => {
    const path = newPath();
    openLog(path, keyOfRun({})).commit(step(1), 1);
    const other = openLog(path, keyOfRun({ seed: 1 }));
    expect(other.past().history).toEqual([]);
    expect(other.abandoned).toEqual({ step: 1, steps: 9, key: keyOfRun({}) });
    // The log now belongs to the run with seed 1, which has committed no step. So when the run with
    // seed 2 begins, there are no steps to abandon.
    expect(openLog(path, keyOfRun({ seed: 2 })).abandoned).toBeNull();
  });

  test('a finished or failed run is not reported as abandoned', () => {
    for (const end of ['finish', 'fail'] as const) {
      const path = newPath();
      const log = openLog(path, keyOfRun({}));
      log.commit(step(1), 1);
      if (end === 'finish') log.finish(report);
      else log.fail('diverged', 'no');
      expect(openLog(path, keyOfRun({ seed: 1 })).abandoned).toBeNull();
    }
  });

  test('a log of an older version, without a key, counts as another run', () => {
    const path = newPath();
    const older = [{ run: 'ab' }, { master: 1, name: 'cd' }, { commit: step(1), epoch: 1 }];
    mkdirSync(dirname(path));
    writeFileSync(path, older.map((it) => `${JSON.stringify(it)}\n`).join(''));
    const log = openLog(path, keyOfRun({}));
    expect(log.abandoned).toEqual({ step: 1, steps: 9, key: undefined });
    expect(log.past()).toMatchObject({ generation: 1, history: [] });
  });

  function openLog(path: string, key: object): CommitLog {
    const log = openCommitLog(path, key);
    opened.push(log);
    return log;
  }
});

describe('a damaged log', () => {
  test('that is cut at any byte opens with a prefix of the history and can be continued', () => {
    const whole = readFileSync(written());
    let longest = 0;
    for (let cut = 0; cut <= whole.length; cut++) {
      const files = new MemoryCommitFiles(emptyDirectory());
      files.open('log').append(whole.subarray(0, cut));
      const { generation, history } = openCommitLog('log', config, files).past();
      expect(history).toEqual([step(1), step(2), step(3)].slice(0, history.length));
      expect(history.length).toBeGreaterThanOrEqual(longest);
      longest = history.length;
      const again = openCommitLog('log', config, files);
      expect(again.past()).toMatchObject({ generation: generation + 1, history });
      again.commit(step(history.length + 1), generation + 2);
      const last = openCommitLog('log', config, files);
      expect(last.past().history).toHaveLength(history.length + 1);
      const isWhole = cut === 0 || whole[cut - 1] === newline || whole[cut] === newline;
      expect(last.unreadable).toHaveLength(isWhole ? 0 : 1);
    }
    expect(longest).toBe(3);
  });

  test('with garbage anywhere opens with a prefix of the history and can be continued', () => {
    const path = written();
    const whole = readFileSync(path);
    const garbage = fc.oneof(
      fc.uint8Array({ maxLength: 40 }),
      fc
        .constantFrom('\n', '{}\n', '{"step":2}\n', '\n{"commit":{},"generation":1}\n')
        .map(Buffer.from),
    );
    const place = fc.nat(whole.length);
    fc.assert(
      fc.property(garbage, place, fc.nat(30), (bytes, at, lost) => {
        const damaged = [whole.subarray(0, at), bytes, whole.subarray(at + lost)];
        writeFileSync(path, Buffer.concat(damaged));
        const { history } = open(path).past();
        expect(history.map((it) => it.step)).toEqual([1, 2, 3].slice(0, history.length));
        const next = open(path);
        next.commit(step(history.length + 1), next.past().generation + 1);
        expect(open(path).past().history).toHaveLength(history.length + 1);
        for (const log of opened.splice(0)) log.close();
      }),
    );
  });

  test('that another process truncates during use refuses the next commit', () => {
    const path = written();
    const log = open(path);
    truncateSync(path, 10);
    expect(() => log.commit(step(4), 4)).toThrow(
      /^commit log .*: the file has shrunk from \d+ to 10 bytes/,
    );
  });

  test('in a folder that cannot be made is refused', () => {
    const path = newPath();
    open(path);
    expect(() => openCommitLog(join(path, 'below', 'log'), config)).toThrow(/^commit log /);
  });
});

describe('two masters', () => {
  const isSuperseded = { code: 'superseded', exitCode: 3 };

  test('an older master can write nothing after a newer one has opened the log', () => {
    const path = written();
    const older = open(path);
    const newer = open(path);
    const before = readFileSync(path);
    const adding: (() => void)[] = [
      () => older.commit(step(4), 4),
      () => older.beginGeneration(5),
      () => older.fail('diverged', 'oh'),
      () => older.finish(report),
    ];
    for (const add of adding) {
      expect(add).toThrow(expect.objectContaining(isSuperseded));
    }
    expect(readFileSync(path)).toEqual(before);
    newer.commit(step(4), 5);
    expect(stepsOf(open(path))).toEqual([1, 2, 3, 4]);
  });

  test('in any order of actions each step counts once, as committed by the master that led', () => {
    const acts = fc.array(fc.tuple(fc.nat(2), fc.constantFrom('open', 'commit', 'begin')), {
      maxLength: 40,
    });
    fc.assert(
      fc.property(acts, (turns) => {
        const path = newPath();
        const masters: (Leader | undefined)[] = [];
        const told: string[] = [];
        let leading = -1;
        for (const [number, act] of turns) {
          const master = masters[number];
          if (act === 'open') {
            const log = open(path);
            expect(log.past().history.map(({ digest }) => digest)).toEqual(told);
            const generation = log.past().generation + 1;
            masters[number] = { log, generation, next: stepsOf(log).length + 1 };
            leading = number;
          } else if (master !== undefined) {
            const add = (): void => (act === 'commit' ? commitNext(master) : beginNext(master));
            if (number !== leading) expect(add).toThrow(expect.objectContaining(isSuperseded));
            else add();
            if (number === leading && act === 'commit') told.push(step(master.next - 1).digest);
          }
        }
        for (const log of opened.splice(0)) log.close();
      }),
      { numRuns: 60 },
    );
  });

  test('a line that an older master writes while a newer one begins does not count', () => {
    const path = written();
    const older = open(path);
    open(path);
    // The older master checks that it leads. Then the newer master begins. The older master does
    // not know of the newer one yet, and writes this line.
    appendFileSync(path, `${JSON.stringify({ commit: step(4), generation: 4 })}\n`);
    expect(() => older.beginGeneration(5)).toThrow(expect.objectContaining(isSuperseded));
    expect(stepsOf(open(path))).toEqual([1, 2, 3]);
  });

  test('if two masters take the same generation, the first in the file leads', () => {
    const path = written();
    appendFileSync(path, '{"master":4,"name":"first"}\n{"master":4,"name":"second"}\n');
    appendFileSync(path, `${JSON.stringify({ commit: step(4), generation: 4 })}\n`);
    const log = open(path);
    expect(log.past()).toMatchObject({ generation: 4, history: { length: 4 } });
  });
});

test('several processes that take over the lead from each other commit each step once', async () => {
  const path = newPath();
  const steps = 200;
  const rivals = ['a', 'b', 'c'].map((name) => rival(path, name, steps));
  const told = (await Promise.all(rivals)).flat();
  expect(new Set(told.map(({ step: number }) => number)).size).toBe(told.length);
  const found = new Map<number, string>();
  let masters = 0;
  const contents = new LogContents();
  for (const line of readFileSync(path, 'utf8').split('\n')) {
    const record = parseRecord(line);
    if (record !== undefined) contents.take(record);
    if (record !== undefined && 'master' in record) masters++;
  }
  for (const it of contents.history) found.set(it.step, it.digest);
  expect(contents.history.map((it) => it.step)).toEqual(
    Array.from({ length: steps }, (_, i) => i + 1),
  );
  for (const { step: number, digest } of told) expect(found.get(number)).toBe(digest);
  expect(masters).toBeGreaterThan(9);
}, 60_000);

/**
 * Starts a process (rival.mjs) that competes for the lead of the run. Returns the steps that the
 * process reports as committed.
 */
function rival(
  path: string,
  name: string,
  steps: number,
): Promise<{ readonly step: number; readonly digest: string }[]> {
  const file = fileURLToPath(new URL('./rival.mjs', import.meta.url));
  return new Promise((resolve, reject) => {
    execFile(process.execPath, [file, path, name, `${steps}`], (error, out) => {
      if (error !== null) reject(error);
      const lines = out.split('\n').filter((line) => line !== '');
      resolve(
        lines.map((line) => {
          const [number, digest = ''] = line.split(' ');
          return { step: Number(number), digest };
        }),
      );
    });
  });
}

interface Leader {
  readonly log: CommitLog;
  generation: number;
  next: number;
}

function commitNext(master: Leader): void {
  master.log.commit(step(master.next), master.generation);
  master.next++;
}

function beginNext(master: Leader): void {
  master.log.beginGeneration(master.generation + 1);
  master.generation++;
}
