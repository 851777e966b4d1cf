import { spawnSync } from 'node:child_process';
import { appendFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { RunFolder } from '../../src/cli/run-folder.ts';
import type { RunKey } from '../../src/experiment/same-run.ts';
import type { RunEvent, RunFact } from '../../src/run/event.ts';
import { type RecordedRun, readRun } from '../../src/run/read.ts';
import { RunStream } from '../../src/run/stream.ts';
import { requireCompiled } from '../cluster/compiled.ts';
import { config, fact } from './facts.ts';

requireCompiled();

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'pod-run-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

const key: RunKey = {
  ...{ topology: '1x1', model: 'mlp', globalBatch: 8, seed: 0, precision: 'bf16', momentum: 0 },
  ...{ trainDigest: 'a', startDigest: null, steps: 3, ratesDigest: 'b' },
};
const [settings] = fc.sample(
  config.map((it) => ({
    ...{ v: 1 as const, key, config: it, relaxedSimd: true },
    checkpoint: { directory: 'ck', every: 1, keep: 3, resume: false },
  })),
  { seed: 1, numRuns: 1 },
);
if (settings === undefined) throw new Error('no settings');

/**
 * Tells events to a run folder, as one master would: first `before`, then the settings of the run,
 * then `facts`. Returns all told events.
 */
function record(
  path: string,
  facts: readonly RunFact[],
  before: readonly RunFact[] = [],
): RunEvent[] {
  const losses: string[] = [];
  const written = new RunFolder({ path, use: 'a test', onLoss: (why) => losses.push(why) });
  const told: RunEvent[] = [];
  const stream = new RunStream([written, { take: (event) => void told.push(event) }]);
  for (const it of before) stream.tell(it);
  if (settings) written.begin({ settings, continues: true });
  for (const it of facts) stream.tell(it);
  stream.end();
  expect(losses).toEqual([]);
  return told;
}

/** Returns the events of a recorded run without the fields that only the run folder adds. */
function toldIn({ events }: RecordedRun): RunEvent[] {
  return events.map(({ time: _, master: __, ...event }) => event as RunEvent);
}

test('reading what one master after another wrote gives the same events', () => {
  let runs = 0;
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.array(fact), fc.array(fact)), { maxLength: 3 }), (masters) => {
      const path = join(folder, String(runs++));
      const told = masters.map(([before, facts]) => record(path, facts, before));
      if (masters.length === 0) record(path, []);
      const run = readRun(path);
      expect(toldIn(run)).toEqual(told.flat());
      expect(run.lost).toBe(0);
      expect(run.settings).toEqual(settings);
      const last = masters.at(-1)?.[1].findLast(({ kind }) => kind === 'finished');
      expect(run.report).toEqual(last?.kind === 'finished' ? last.report : undefined);
    }),
    { numRuns: 60 },
  );
});

const ready = (elapsedMs: number): RunFact => ({ kind: 'ready', elapsedMs });
const events = (): string => join(folder, 'events.ndjson');

describe('a line that is', () => {
  const cases: [string, (line: string) => string, RegExp][] = [
    ['cut', (line) => line.slice(0, -4), /expected an event as JSON, found "\{\\"master/],
    ['no object', () => '7', /damaged: contents: /],
    ['empty', () => '', /expected an event as JSON, found ""/],
    ['of an unknown kind', (line) => line.replace('ready', 'raedy'), /damaged: kind: /],
    ['without a field', (line) => line.replace('elapsedMs', 'elapsed'), /damaged: elapsedMs: /],
    ['with a wrong value', (line) => line.replace(/:2\}/, ':"2"}'), /damaged: elapsedMs: /],
    ['without a number', (line) => line.replace('"n":1,', ''), /damaged: n: /],
    ['of another version', (line) => line.replace('"v":1', '"v":2'), /expected version 1, found v/],
    ['twice there', (line) => line.replace('"n":1', '"n":0'), /found event 0 of master 0 after ev/],
  ];

  test.each(cases)('%s is refused by its number', (_, damage, message) => {
    record(folder, [ready(1), ready(2), ready(3)]);
    const lines = readFileSync(events(), 'utf8').split('\n');
    lines[1] = damage(lines[1] ?? '');
    writeFileSync(events(), lines.join('\n'));
    const read = (): unknown => readRun(folder);
    expect(read).toThrow(expect.objectContaining({ code: 'bad-data', exitCode: 2 }));
    expect(read).toThrow(/events\.ndjson: line 2: /);
    expect(read).toThrow(message);
  });

  test('unfinished at the end is left out, and the next master removes it', () => {
    const told = record(folder, [ready(1)]);
    appendFileSync(events(), '{"master":0,"time":1');
    expect(toldIn(readRun(folder))).toEqual(told);
    told.push(...record(folder, [ready(2)]));
    expect(toldIn(readRun(folder))).toEqual(told);
    expect(readRun(folder).events.map(({ master, n }) => [master, n])).toEqual([
      [0, 0],
      [1, 0],
    ]);
  });
});

test('events that are missing are counted', () => {
  record(folder, [ready(1), ready(2), ready(3)]);
  record(folder, [ready(4), ready(5)]);
  const lines = readFileSync(events(), 'utf8').split('\n');
  writeFileSync(events(), lines.filter((_, i) => i !== 1 && i !== 3).join('\n'));
  const { lost, events: found } = readRun(folder);
  expect([lost, found.length]).toEqual([2, 3]);
});

test('an event for which the disk has no room leaves no trace, and later events are recorded', () => {
  const long: RunFact = { kind: 'failed', code: null, message: 'x'.repeat(8192) };
  const facts = [ready(1), long, ready(2), long, ready(3)];
  const recorder = fileURLToPath(new URL('recorder.mjs', import.meta.url));
  const words = [recorder, folder, JSON.stringify(facts), JSON.stringify(settings)];
  const line = 'ulimit -f 4; exec "$0" "$@"';
  const { stdout } = spawnSync('bash', ['-c', line, process.execPath, ...words], {
    encoding: 'utf8',
  });
  expect(stdout).toMatch(/could not be written: EFBIG.* \(2 events lost\)$/);
  const run = readRun(folder);
  expect(toldIn(run)).toEqual(
    [ready(1), ready(2), ready(3)].map((it, i) => ({ v: 1, n: 2 * i, ...it })),
  );
  expect(run.lost).toBe(2);
});

describe('a folder', () => {
  test('without a record is named', () => {
    expect(() => readRun(folder)).toThrow(
      /config\.json: expected a record of --run, found nothing/,
    );
  });

  test('with damaged settings or a damaged report is named', () => {
    record(folder, [ready(1)]);
    writeFileSync(join(folder, 'report.json'), '{}');
    expect(() => readRun(folder)).toThrow(/report\.json: damaged: tpus: /);
    writeFileSync(join(folder, 'config.json'), '{"v": 9}');
    expect(() => readRun(folder)).toThrow(/config\.json: expected version 1, found version 9; an/);
  });
});
