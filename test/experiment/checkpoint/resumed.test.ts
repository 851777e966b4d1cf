import { expect, test } from 'vitest';
import { openThreadPod } from '../../../cluster/threads/pool.ts';
import {
  type Checkpoints,
  listCheckpoints,
  newestWhole,
  openCheckpoints,
  verifyCheckpoint,
} from '../../../src/experiment/checkpoint/checkpoints.ts';
import { exportNewest } from '../../../src/experiment/checkpoint/export.ts';
import type { TrainConfig } from '../../../src/experiment/config.ts';
import type { Report, StepCommitted, TrainEvent } from '../../../src/experiment/event.ts';
import { PodError } from '../../../src/numerics/error.ts';
import { requireCompiled } from '../../cluster/compiled.ts';
import { abandon, trainInto } from '../told.ts';
import { type MemoryFile, MemoryFiles } from './memory-files.ts';
import { config as base, snapshotOf } from './snapshots.ts';

requireCompiled();

/**
 * A run of six steps with 8 samples each. The data set has 40 samples, so the sixth step begins the
 * second pass over the data.
 */
const config: TrainConfig = { ...base, data: 'digits:40', warmUp: 0.5 };

test('a run that is stopped and resumed twice ends with the bits of an uninterrupted run', async () => {
  const whole = await eventsOf(config);
  const files = new MemoryFiles();
  const first = await eventsOf(config, { files, until: 4, every: 3 });
  // The first run is abandoned after step 4. Its last checkpoint is that of step 3, so the second
  // run repeats step 4. The second run is abandoned after step 6. Its last checkpoint is that of
  // step 5, so the third run repeats step 6.
  const second = await eventsOf(config, { files, resume: true, until: 6, every: 1 });
  const third = await eventsOf(
    { ...config, evaluate: 16 },
    {
      files,
      resume: true,
    },
  );
  const steps = [first, second, third].map(stepsOf);
  expect(steps.map((it) => it.map(({ step }) => step))).toEqual([[1, 2, 3, 4], [4, 5, 6], [6]]);
  const expected = bitsOf(stepsOf(whole));
  expect(bitsOf(steps[0]!)).toEqual(expected.slice(0, 4));
  expect(bitsOf(steps[1]!)).toEqual(expected.slice(3));
  expect(bitsOf(steps[2]!)).toEqual(expected.slice(5));
  expect(reportOf(third)).toMatchObject({
    weightsDigest: reportOf(whole).weightsDigest,
    finalLoss: reportOf(whole).finalLoss,
    checkpoints: { resumedFrom: 'step-0000005', refused: [], saved: 1, failed: 0 },
  });

  const after = await eventsOf(config, { files, resume: true });
  expect(stepsOf(after)).toEqual([]);
  const { weightsDigest, finalLoss, evalAccuracy } = reportOf(whole);
  expect(reportOf(after)).toMatchObject({
    ...{ weightsDigest, finalLoss, evalAccuracy, imagesPerSecond: 0 },
    checkpoints: { resumedFrom: 'step-0000006', saved: 0 },
  });
}, 60_000);

test('a longer run that continues a shorter one ends with the bits of an uninterrupted run', async () => {
  const constant: TrainConfig = { ...config, schedule: 'constant', warmUp: 0 };
  const longer: TrainConfig = { ...constant, length: { unit: 'steps', steps: 9 } };
  const files = new MemoryFiles();
  const first = reportOf(await eventsOf(constant, { files }));
  const again = await eventsOf(longer, { files, resume: true });
  const whole = await eventsOf(longer);
  expect(bitsOf(stepsOf(again))).toEqual(bitsOf(stepsOf(whole)).slice(6));
  expect(reportOf(again).weightsDigest).toBe(reportOf(whole).weightsDigest);
  expect([first, reportOf(again), reportOf(whole)].map((it) => it.stepsTrained)).toEqual([6, 3, 9]);
  const over = reportOf(await eventsOf(longer, { files, resume: true }));
  expect(over).toMatchObject({ steps: 9, stepsTrained: 0 });

  const cosine: TrainConfig = { ...longer, schedule: 'cosine' };
  await expect(eventsOf(cosine, { files, resume: true })).rejects.toThrow(
    /^checkpoint step-0000009: the learning rate of step 2 was 0.05, this run has .*--start-from/,
  );
}, 60_000);

test('a bad checkpoint is reported, and the one before it is used', async () => {
  const files = new MemoryFiles();
  const whole = await eventsOf(config, { files, every: 2 });
  const newest = files.node('dir/step-0000006/optimizer.safetensors') as MemoryFile;
  newest.bytes = newest.bytes.slice(0, 4096);
  const again = await eventsOf(config, { files, every: 2, resume: true });
  const refused = [
    { name: 'step-0000006', reason: expect.stringMatching(/^optimizer.*found 4096$/) },
  ];
  expect(again[1]).toEqual({ kind: 'resumed', checkpoint: 'step-0000004', step: 4, refused });
  expect(reportOf(again).checkpoints).toEqual({
    ...{ resumedFrom: 'step-0000004', refused, saved: 1, failed: 0 },
  });
  expect(reportOf(again).weightsDigest).toBe(reportOf(whole).weightsDigest);
  const checkpoints = await openCheckpoints('dir', { keep: 3, files });
  expect((await checkpoints.latest()).checkpoint?.name).toBe('step-0000006.1');
  // The refused checkpoint is left as it is.
  const refusedBytes = (files.node('dir/step-0000006/optimizer.safetensors') as MemoryFile).bytes;
  expect(refusedBytes).toBe(newest.bytes);
}, 60_000);

test('if all checkpoints are bad, a resumed run fails and changes nothing on disk', async () => {
  const files = new MemoryFiles();
  await eventsOf(config, { files, every: 3 });
  for (const step of [3, 6]) {
    const manifest = files.node(`dir/step-000000${step}/manifest.json`) as MemoryFile;
    manifest.bytes = new TextEncoder().encode('{"format":"tpu-pod checkpoint","version":2}');
  }
  const before = files.operations.length;
  const run = eventsOf(config, { files, resume: true });
  await expect(run).rejects.toMatchObject({ code: 'bad-data' });
  await expect(run).rejects.toThrow(
    /^no checkpoint in the directory can be resumed: step-0000006 \(and 1 more\): manifest\.json: version: expected 1, found 2; repair or move it, or name another directory$/,
  );
  expect(files.operations.slice(before)).toEqual([]);
}, 60_000);

test('two runs can never use one directory', async () => {
  const files = new MemoryFiles();
  const taken = new Set<string>();
  const lock = (directory: string): { release: () => void } => {
    if (taken.has(directory)) throw new PodError('in-use', `${directory}: in use`);
    taken.add(directory);
    return { release: () => void taken.delete(directory) };
  };
  const open = () => openCheckpoints('dir', { keep: 3, files, lock });
  const [first, second] = [await open(), await open()];
  await first.begin();
  await expect(second.begin()).rejects.toMatchObject({ code: 'in-use' });
  await expect(open()).rejects.toMatchObject({ code: 'in-use' });
  await first.save(snapshotOf(1));
  first.close();
  // The directory was empty when `second` opened it, and `second` has saved nothing. So the
  // checkpoint that is there now must be of another run.
  await expect(second.begin()).rejects.toThrow(
    'dir: another run has saved step-0000001 during this run',
  );
  second.close();
  expect(await (await open()).list()).toEqual(['step-0000001']);
});

test('a checkpoint that its run deletes during a verification is not reported as bad', async () => {
  const files = new MemoryFiles();
  const checkpoints = await openCheckpoints('dir', { keep: 1, files });
  for (const step of [1, 2]) await checkpoints.save(snapshotOf(step));
  expect(await verifyCheckpoint('dir', 'step-0000001', files)).toBe('gone');
  // The first list names step-0000001, which has been deleted, and step-0000000, which is bad.
  // Neither loads. So `newestWhole` lists the directory again, and finds step-0000002.
  await files.makeDirectory('dir/step-0000000');
  const lists = [['step-0000001', 'step-0000000'], await checkpoints.list()];
  const list = async (): Promise<readonly string[]> => lists.shift() ?? [];
  expect(await newestWhole('dir', list, files)).toMatchObject({
    checkpoint: { name: 'step-0000002' },
    refused: [],
  });
});

test('an export takes the next checkpoint if the run deletes the one that it reads', async () => {
  const files = new MemoryFiles();
  const checkpoints = await openCheckpoints('dir', { keep: 1, files });
  await checkpoints.save(snapshotOf(1));
  const read = files.readFile.bind(files);
  let weightsRead = 0;
  files.readFile = async (path, bytesMax) => {
    // The export reads the weights twice: first to verify the checkpoint, then to write the
    // exported file. Before the second reading, the run saves step-0000002. The run keeps only one
    // checkpoint, so it deletes step-0000001.
    if (path.endsWith('step-0000001/weights.safetensors') && ++weightsRead === 2) {
      await checkpoints.save(snapshotOf(2));
    }
    return read(path, bytesMax);
  };
  const list = (): Promise<readonly string[]> => listCheckpoints('dir', files);
  expect(await exportNewest('dir', list, 'out', files)).toMatchObject({
    ...{ file: { name: 'step-0000002' }, refused: [] },
  });
  expect(weightsRead).toBe(2);
});

test('a run with --resume and without checkpoints starts from step 1', async () => {
  const events = await eventsOf(config, { files: new MemoryFiles(), resume: true, until: 1 });
  expect(events[1]).toEqual({ kind: 'resumed', checkpoint: null, step: 0, refused: [] });
  expect(stepsOf(events).map(({ step }) => step)).toEqual([1]);
});

test('a full disk does not stop a run, which ends with a report and an io error', async () => {
  const files = new MemoryFiles();
  const checkpoints = await openCheckpoints('dir', { keep: 3, files });
  await checkpoints.begin();
  files.fault = { kind: 'full', at: 0 };
  const events: TrainEvent[] = [];
  const run = collect(events, config, { checkpoints, every: 2, resume: false });
  await expect(run).rejects.toMatchObject({ code: 'io' });
  await expect(run).rejects.toThrow(/^checkpoint step-0000006: could not be written: ENOSPC/);
  expect(stepsOf(events)).toHaveLength(6);
  expect(events.filter(({ kind }) => kind === 'checkpoint-failed').length).toBeGreaterThan(0);
  expect(reportOf(events).checkpoints).toMatchObject({ saved: 0 });
}, 60_000);

test('a directory of another run, or a run without --resume, is refused in one line', async () => {
  const files = new MemoryFiles();
  await eventsOf(config, { files, until: 2, every: 1 });
  const refusals: [TrainConfig, boolean, RegExp][] = [
    [config, false, /^the directory for checkpoints has step-0000001 already: use --resume/],
    [
      { ...config, model: 'cnn' },
      true,
      /has model mlp, this run has model cnn: resume with --model/,
    ],
    [{ ...config, globalBatch: 16 }, true, /has global batch 8, this run has global batch 16/],
    [{ ...config, seed: 1 }, true, /has seed 0, this run has seed 1: resume with --seed 0/],
    [{ ...config, length: { unit: 'epochs', epochs: 2 } }, true, /learning rate of step 1 was/],
    [
      { ...config, topology: { columns: 2, rows: 1 }, globalBatch: 16 },
      true,
      /resume with --tpus 1/,
    ],
  ];
  for (const [other, resume, message] of refusals) {
    const run = eventsOf(other, { files, resume });
    await expect(run).rejects.toMatchObject({ code: 'bad-config' });
    await expect(run).rejects.toThrow(message);
  }
}, 60_000);

interface How {
  readonly files: MemoryFiles;
  readonly every?: number;
  readonly resume?: boolean;
  /** Step after which the test abandons the run, as if it were killed. */
  readonly until?: number;
}

async function eventsOf(run: TrainConfig, how?: How): Promise<TrainEvent[]> {
  const events: TrainEvent[] = [];
  if (how === undefined) return collect(events, run);
  const { files, every = 100, resume = false, until } = how;
  const checkpoints = await openCheckpoints('dir', { keep: 3, files });
  return collect(events, run, { checkpoints, every, resume }, until);
}

async function collect(
  events: TrainEvent[],
  run: TrainConfig,
  checkpoints?: { checkpoints: Checkpoints; every: number; resume: boolean },
  until?: number,
): Promise<TrainEvent[]> {
  const world = { openPod: openThreadPod, now: () => performance.now() };
  return trainInto(events, run, { ...world, ...(checkpoints && { checkpoints }) }, (event) =>
    event.kind === 'step' && event.step === until ? abandon : undefined,
  );
}

function stepsOf(events: readonly TrainEvent[]): StepCommitted[] {
  return events.filter((event) => event.kind === 'step');
}

function bitsOf(steps: readonly StepCommitted[]): unknown[] {
  return steps.map(({ step, digest, loss, accuracy, learningRate }) => {
    return { step, digest, loss, accuracy, learningRate };
  });
}

function reportOf(events: readonly TrainEvent[]): Report {
  const last = events.at(-1);
  if (last?.kind !== 'finished') throw new Error(`the run ended with ${last?.kind}`);
  return last.report;
}
