import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { RecordedEvent } from '../../../src/run/event.ts';
import { readRun } from '../../../src/run/read.ts';
import { requireCompiled } from '../compiled.ts';
import { newFolder, pod, processesOf, untilSaid } from './pod.ts';

requireCompiled();

const steps = 40;
const flags = ['--tpus', '2', '--model', 'mlp', '--steps', `${steps}`, '--evaluate', '256'];

/** Starts a pod of processes in a new folder and records its run. Returns once step 5 is done. */
async function started(recovery: string) {
  const dir = join(newFolder(), 'pod');
  const run = join(dir, '..', 'run');
  const folders = ['--dir', dir, '--run', run];
  const { ran } = pod('up', '--wait', ...folders, ...flags, '--recovery', recovery);
  await untilSaid(join(dir, 'master.log'), '"step":5,');
  return { dir, run, ran };
}

/**
 * Trains in a pod of processes and records the run. After step 5, calls `breakIt` with the folder
 * of the pod. Returns when the run has ended.
 */
async function recorded(breakIt: (dir: string) => void) {
  const { dir, run, ran } = await started('replace');
  breakIt(dir);
  const { code, out, err } = await ran;
  expect([code, err.includes('lost')]).toEqual([0, false]);
  const log = readFileSync(join(dir, 'master.log'), 'utf8').trim().split('\n');
  return { record: readRun(run), summary: JSON.parse(out), log: log.map((it) => JSON.parse(it)) };
}

/** Returns the name of an event as the log shows it, in the field `msg`. */
function msgOf(event: RecordedEvent): string {
  if (event.kind === 'note') return event.note.event;
  if (event.kind === 'pod') return event.msg;
  return event.kind === 'finished' ? 'summary' : event.kind;
}

const committed = (events: readonly RecordedEvent[]): number[] =>
  events.flatMap((it) => (it.kind === 'step' ? [it.step] : []));

test('a lost worker: each note and each event of the pod is in the record once, as in the log', async () => {
  const { record, summary, log } = await recorded((dir) => {
    process.kill(processesOf(dir).workers[1] ?? 0, 'SIGKILL');
  });
  const { events, report, lost } = record;
  expect(lost).toBe(0);
  expect(events.map(({ n, master }) => [n, master])).toEqual(events.map((_, i) => [i, 0]));
  expect(committed(events)).toEqual(Array.from({ length: steps }, (_, i) => i + 1));
  const told = events.map(msgOf);
  // The log also has lines about the master itself, such as `listening`, which are not in the
  // record. So this test compares only log lines whose `msg` is the name of a recorded event.
  const names = new Set(told);
  expect(log.map(({ msg }) => msg as string).filter((msg) => names.has(msg))).toEqual(told);
  expect(told.filter((it) => it === 'joined')).toHaveLength(3);
  expect(told.filter((it) => it === 'worker-gone')).toHaveLength(1);
  const stages = events.flatMap((it) => (it.kind === 'note' ? [it.note.event] : []));
  expect(stages).toEqual(['lost', 'replaced', 'restored', 'resumed']);
  const noteAt = told.indexOf('lost');
  const before = committed(events.slice(0, noteAt)).at(-1) ?? 0;
  const after = committed(events.slice(told.indexOf('resumed')))[0];
  expect(before).toBeGreaterThanOrEqual(5);
  expect(after).toBe(before + 1);
  expect(events.findLast(({ kind }) => kind === 'step')?.generation).toBe(2);
  expect(summary).toMatchObject({ weightsDigest: report?.weightsDigest, recoveries: 1 });
});

test('a second master appends its events to the record of the first', async () => {
  const { record, summary } = await recorded((dir) => {
    process.kill(processesOf(dir).master, 'SIGKILL');
  });
  const { events, report } = record;
  expect([...new Set(events.map(({ master }) => master))]).toEqual([0, 1]);
  const resumed = events.find((it) => it.kind === 'resumed');
  const told = new Set(committed(events));
  expect(committed(events)).toEqual([...told].sort((a, b) => a - b));
  // The kill may hit the first master after it has committed a step and before it has recorded the
  // event of this step. Then the record lacks the step. The event `resumed` of the second master
  // names the last committed step, so it names this step.
  const missing = Array.from({ length: steps }, (_, i) => i + 1).filter((it) => !told.has(it));
  expect(missing.filter((it) => it !== resumed?.step)).toEqual([]);
  const second = events.filter(({ master }) => master === 1);
  expect(second.map(({ n }) => n)).toEqual(second.map((_, i) => i));
  expect(second.map(msgOf)).toEqual(expect.arrayContaining(['commits-found', 'resumed', 'joined']));
  expect(summary).toMatchObject({ weightsDigest: report?.weightsDigest, recoveries: 1 });
});

test('a worker that dies after a signal: the event stopped names the last committed step', async () => {
  const { dir, run, ran } = await started('none');
  const { master, workers } = processesOf(dir);
  // SIGSTOP pauses worker 1, so the running step cannot end. When SIGTERM arrives, the master is
  // still waiting for worker 1.
  process.kill(workers[1] ?? 0, 'SIGSTOP');
  process.kill(master, 'SIGTERM');
  await untilSaid(join(dir, 'master.log'), '"msg":"ending"');
  process.kill(workers[1] ?? 0, 'SIGKILL');
  expect((await ran).code).toBe(143);
  const { events } = readRun(run);
  const last = committed(events).at(-1);
  expect(last).toBeGreaterThanOrEqual(5);
  expect(events.at(-1)).toMatchObject({ kind: 'stopped', step: last, saved: false });
});
