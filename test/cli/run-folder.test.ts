import { spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { trainOptions } from '../../src/cli/options.ts';
import type { StepTold } from '../../src/experiment/event.ts';
import { readRun } from '../../src/run/read.ts';
import { endOf, shell, startPod, untilWritten } from './run-pod.ts';
import { refusal } from './settings/values.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'pod-record-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const tiny = '$pod train --model mlp --tpus 1 --steps 3 --global-batch 8 --evaluate 8';
const path = (name: string): string => join(folder, name);

/** All names below the folder, with sizes and contents. */
function listing(): string {
  const line = 'find . -printf "%p %y %s\\n" | sort; find . -type f -exec sha256sum {} + | sort';
  return spawnSync('bash', ['-c', line], { cwd: folder, encoding: 'utf8' }).stdout;
}

test('pod train records its events, settings and report, which agree with log and report', async () => {
  const { code, stderr } = await shell(`${tiny} --run deep/run --log log --report report`, {
    cwd: folder,
  });
  expect([code, stderr]).toEqual([0, '']);
  expect(readdirSync(path('deep/run')).sort()).toEqual([
    'config.json',
    'events.ndjson',
    'report.json',
  ]);
  const { settings, events, report, lost } = readRun(path('deep/run'));
  const kinds = ['started', 'ready', 'step', 'step', 'step', 'evaluating', 'evaluated', 'finished'];
  expect(events.map(({ kind }) => kind)).toEqual(kinds);
  expect(events.map(({ n }) => n)).toEqual(kinds.map((_, i) => i));
  expect(events.map(({ generation }) => generation)).toEqual(kinds.map(() => 1));
  expect(lost).toBe(0);
  expect(settings).toMatchObject({ key: { model: 'mlp', steps: 3 }, checkpoint: null });
  expect(report).toEqual(JSON.parse(readFileSync(path('report'), 'utf8')));
  const log = readFileSync(path('log'), 'utf8').trim().split('\n');
  const logged = log.map((line) => JSON.parse(line) as Readonly<Record<string, unknown>>);
  expect(logged.map(({ msg }) => msg)).toEqual([...kinds.slice(0, -1), 'summary']);
  const [, , , recorded] = events;
  const { v, n, kind, master, time, ...step } = recorded ?? expect.fail('no step');
  const { tpuPhaseMs, tpuLinkWaitMs, ...short } = step as StepTold;
  expect([tpuPhaseMs, tpuLinkWaitMs].map((it) => it?.length)).toEqual([1, 1]);
  expect(logged[3]).toMatchObject(short);
  for (const field of ['n', 'tpuPhaseMs', 'tpuLinkWaitMs'])
    expect(Object.keys(logged[3] ?? {})).not.toContain(field);
});

test('a resumed run continues its record; a new run and another run are refused', async () => {
  const line = `${tiny} --run run --checkpoint ck`;
  expect((await shell(line, { cwd: folder })).code).toBe(0);
  const before = listing();
  const refusals: [string, RegExp][] = [
    [`${tiny} --run run`, /expected a folder without the record of a run, found one of mlp; name/],
    [`${tiny} --run run --seed 1 --checkpoint new --resume`, /with seed 0, this run has seed 1; n/],
  ];
  for (const [refused, why] of refusals) {
    const { code, stderr, stdout } = await shell(refused, { cwd: folder });
    expect(stderr).toMatch(/^pod: bad-config: --run run: [^\n]*\n$/);
    expect(stderr).toMatch(why);
    expect([code, stdout]).toEqual([2, '']);
    expect(listing()).toBe(before);
  }
  expect((await shell(`${line} --resume`, { cwd: folder })).code).toBe(0);
  const { events, report } = readRun(path('run'));
  const second = events.filter(({ master }) => master === 1);
  expect(second.map(({ kind }) => kind)).toEqual([
    ...['started', 'resumed', 'ready', 'evaluating', 'evaluated', 'finished'],
  ]);
  expect(second.map(({ n }) => n)).toEqual([0, 1, 2, 3, 4, 5]);
  expect(events).toHaveLength(second.length + events.findIndex(({ master }) => master === 1));
  expect(report?.checkpoints?.resumedFrom).toBe('step-0000003');
});

test('a folder belongs to one run at a time, and is free as soon as its owner is killed', async () => {
  const words = 'train --model mlp --tpus 1 --global-batch 8 --steps 100000 --run run';
  const owner = startPod(words.split(' '), folder);
  await untilWritten(owner, '\nstep');
  for (const command of ['train', 'up']) {
    const { code, stderr } = await shell(`$pod ${command} --model mlp --tpus 1 --run run`, {
      cwd: folder,
    });
    expect(stderr).toMatch(/^pod: in-use: run: in use by process \d+; wait/);
    expect(code).toBe(2);
    expect(existsSync(path('.pod'))).toBe(false);
  }
  const ended = endOf(owner);
  owner.kill('SIGKILL');
  await ended;
  const { events, report } = readRun(path('run'));
  expect(events.filter(({ kind }) => kind === 'step').length).toBeGreaterThan(0);
  expect(report).toBeUndefined();
  const { stderr } = await shell(`${tiny} --run run`, { cwd: folder });
  expect(stderr).toMatch(/^pod: bad-config: --run run: expected a folder without the record/);
});

describe('a record that cannot be written is named once, and the run ends with exit code 5', () => {
  test('a full disk: the events that fit stay readable', async () => {
    const { code, stdout, stderr } = await shell(`ulimit -f 2; ${tiny} --run run`, { cwd: folder });
    expect(stdout).toContain('digest of the weights');
    expect(stderr.split('\n')).toHaveLength(3);
    expect(stderr).toMatch(
      /^pod: --run run: could not be written: EFBIG[^\n]*; the run continues without its record\n/,
    );
    expect(stderr).toMatch(
      /\npod: io: output was lost: --run run: .*EFBIG.* \(\d events lost\)\n$/,
    );
    expect(code).toBe(5);
    const { events } = readRun(path('run'));
    expect(events.length).toBeGreaterThan(1);
    expect(events[0]?.kind).toBe('started');
  });

  test('a folder that is removed', async () => {
    const words = 'train --model mlp --tpus 1 --global-batch 8 --steps 400 --evaluate 8 --run run';
    const child = startPod(words.split(' '), folder);
    const ended = endOf(child);
    await untilWritten(child, '\nstep');
    rmSync(path('run'), { recursive: true });
    const { code, stdout, stderr } = await ended;
    expect(stdout).toContain('digest of the weights');
    expect(stderr).toBe(
      'pod: io: output was lost: --run run: the folder was deleted or replaced while the run went on\n',
    );
    expect(code).toBe(5);
    expect(existsSync(path('run'))).toBe(false);
  });
});

describe('a folder is refused before the run, and nothing changes, if it', () => {
  test.each<[string, Readonly<Record<string, string>>, RegExp]>([
    ['is a file', { run: 'file' }, /--run: expected a folder, found a regular file/],
    [
      'is the folder of checkpoints',
      { run: 'ck', checkpoint: 'ck' },
      /not part of the checkpoints/,
    ],
    ['is in a checkpoint', { run: 'ck/step-0000001/x', checkpoint: 'ck' }, /of --checkpoint/],
    ['has the log', { run: 'old', log: 'old/events.ndjson' }, /other than that of --log/],
    ['has the settings', { run: 'old', config: 'old/config.json' }, /that --config does not read/],
    ['begins with a tilde', { run: '~/run' }, /does not begin with ~/],
  ])('%s', (_, names, message) => {
    writeFileSync(path('file'), '');
    mkdirSync(path('ck/step-0000001'), { recursive: true });
    mkdirSync(path('old'));
    writeFileSync(path('old/config.json'), '{ "model": "mlp" }');
    const before = listing();
    const flags = Object.entries(names).map(([key, name]) => {
      return [key, name.startsWith('~') ? name : path(name)];
    });
    const error = refusal(() => trainOptions(Object.fromEntries(flags)));
    expect(error.message).toMatch(message);
    expect(error.exitCode).toBe(2);
    expect(listing()).toBe(before);
  });

  test('has events without settings', async () => {
    mkdirSync(path('run'));
    writeFileSync(path('run/events.ndjson'), 'of the user\n');
    const before = listing();
    const { code, stderr } = await shell(`${tiny} --run run`, { cwd: folder });
    expect(stderr).toMatch(/^pod: bad-config: --run run: expected a folder without events.ndjson/);
    expect(code).toBe(2);
    expect(listing()).toBe(before);
  });

  test('would belong to a run that is refused', async () => {
    const { code } = await shell(`${tiny} --run run --data mnist:none`, { cwd: folder });
    expect(code).toBe(2);
    expect(readdirSync(folder)).toEqual([]);
  });
});
