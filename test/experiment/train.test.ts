import { expect, test } from 'vitest';
import { openThreadPod } from '../../cluster/threads/pool.ts';
import { type RawOptions, trainOptions } from '../../src/cli/options.ts';
import type { Report, StepCommitted, TrainEvent } from '../../src/experiment/event.ts';
import { linkBytesFormula } from '../../src/fabric/link-bytes.ts';
import { chipCount, type Direction, linkName, podTorus } from '../../src/fabric/torus.ts';
import type { Fault } from '../../src/fault/plan.ts';
import { requireCompiled } from '../cluster/compiled.ts';
import { trainInto } from './told.ts';

requireCompiled();

const small: RawOptions = {
  model: 'mlp',
  tpus: '2',
  globalBatch: '64',
  steps: '4',
  evaluate: '64',
};

test('the same flags give the same weights with any timing, and another seed gives others', async () => {
  const [first, second, other] = await Promise.all([
    reportOf(small),
    reportOf(small),
    reportOf({ ...small, seed: '1' }),
  ]);
  expect(second.weightsDigest).toBe(first.weightsDigest);
  expect(other.weightsDigest).not.toBe(first.weightsDigest);
}, 60_000);

test('without fused multiply-add, and with the systolic MXU, the weights are the same', async () => {
  const tiny = { ...small, tpus: '1', globalBatch: '8', steps: '1', evaluate: '8' };
  const fused = await reportOf(tiny);
  const unfused = await reportOf({ ...tiny, relaxedSimd: false });
  const systolic = await reportOf({ ...tiny, mxu: 'systolic' });
  expect(unfused.weightsDigest).toBe(fused.weightsDigest);
  expect(systolic.weightsDigest).toBe(fused.weightsDigest);
}, 120_000);

test('a run yields its events in order, and a report that agrees with them', async () => {
  const events = await eventsOf(small);
  const kinds = events.map((event) => event.kind);
  expect(kinds).toEqual([
    'started',
    'ready',
    ...Array<string>(4).fill('step'),
    'evaluating',
    'evaluated',
    'finished',
  ]);
  const steps = events.filter((event) => event.kind === 'step');
  expect(steps.map(({ step }) => step)).toEqual([1, 2, 3, 4]);
  const report = finished(events);
  const last = steps.at(-1) as StepCommitted;
  expect(report).toMatchObject({
    tpus: 2,
    topology: '2x1',
    model: 'mlp',
    data: 'digits',
    globalBatch: 64,
    steps: 4,
    seed: 0,
    finalLoss: last.loss,
    weightsDigest: last.digest,
    evalSamples: 64,
  });
  expect(report.stepMs.max).toBeGreaterThanOrEqual(report.stepMs.p50);
}, 60_000);

test('the first loss is ln 10, as for a guess among ten, and training lowers it', async () => {
  const events = await eventsOf({
    ...small,
    steps: '30',
    globalBatch: '128',
    learningRate: '0.03',
  });
  const losses = events.filter((event) => event.kind === 'step').map(({ loss }) => loss);
  expect(Math.abs((losses[0] ?? 0) - Math.log(10))).toBeLessThan(0.1);
  expect(losses.at(-1)).toBeLessThan((losses[0] ?? 0) / 2);
}, 60_000);

test('each link carries the bytes of the formula, in training and evaluation', async () => {
  const flags = { ...small, tpus: '4', evaluate: '64' };
  const { linkBytes, steps } = await reportOf(flags);
  const torus = podTorus({ columns: 2, rows: 2 });
  const weights = 784 * 512 + 512 + 512 * 10 + 10;
  // Each training step has one all-reduce. It sums one gradient for each weight, the loss, and the
  // number of right answers: `weights` + 2 values. The evaluation has one all-reduce of three
  // values.
  const expected = Array.from({ length: chipCount(torus) * 4 }, (_, link) => {
    const at = [link >> 2, (link & 3) as Direction] as const;
    const bytes = steps * linkBytesFormula(torus, weights + 2, ...at);
    return [linkName(torus, link), bytes + linkBytesFormula(torus, 3, ...at)];
  });
  expect(linkBytes).toEqual(Object.fromEntries(expected));
}, 60_000);

test('a far too high learning rate ends the run with diverged', async () => {
  const flags = { ...small, learningRate: '1e6', steps: '30', warmUp: '0' };
  await expect(eventsOf(flags)).rejects.toMatchObject({ code: 'diverged', exitCode: 3 });
}, 60_000);

test('lost Cloud TPUs are replaced, and the weights are those of an undisturbed run', async () => {
  const undisturbed = await reportOf(small);
  const faults: Fault[] = [
    { fault: 'throw', tpu: 1, at: { step: 2, phase: 'reduce-scatter' } },
    { fault: 'exit', tpu: 0, at: { step: 3, phase: 'infeed' } },
    { fault: 'flip-bit', in: 'reduce-buffer', tpu: 1, at: { step: 4, phase: 'update' } },
  ];
  const events = await eventsOf({ ...small, recovery: 'replace' }, undefined, faults);
  const report = finished(events);
  expect(report.weightsDigest).toBe(undisturbed.weightsDigest);
  expect(report.evalAccuracy).toBe(undisturbed.evalAccuracy);
  expect(report.recoveries).toBe(3);
  const told = events.flatMap((event) => (event.kind === 'note' ? [event.note.event] : []));
  expect(told).toEqual(expect.arrayContaining(['lost', 'replaced', 'restored', 'resumed']));
  expect(events.filter((event) => event.kind === 'step')).toHaveLength(4);
}, 60_000);

test('without recovery the first loss ends the run and is named', async () => {
  const faults: Fault[] = [{ fault: 'throw', tpu: 1, at: { step: 2 } }];
  await expect(eventsOf(small, undefined, faults)).rejects.toMatchObject({
    code: 'worker-threw',
    exitCode: 3,
    message: expect.stringContaining('Cloud TPU 1 (x 1, y 0)'),
  });
}, 60_000);

test('a run that is asked to stop ends after the current step with the event stopped', async () => {
  let asked = 0;
  const events = await eventsOf(small, () => ++asked > 2);
  expect(events.at(-1)).toEqual({ kind: 'stopped', step: 2, steps: 4, saved: false });
  expect(events.filter((event) => event.kind === 'step')).toHaveLength(2);
}, 60_000);

test('a run that is asked to stop during its evaluation ends before the next batch', async () => {
  let asked = 0;
  const flags = { ...small, evaluate: '640' };
  const events = await eventsOf(flags, () => ++asked > 4 + 2);
  expect(events.at(-1)).toEqual({ kind: 'stopped', step: 4, steps: 4, saved: false });
  expect(events.map(({ kind }) => kind)).not.toContain('evaluated');
}, 60_000);

test('a run that is asked to stop before its first step runs none', async () => {
  const events = await eventsOf(small, () => true);
  expect(events.at(-1)).toEqual({ kind: 'stopped', step: 0, steps: 4, saved: false });
}, 60_000);

async function reportOf(flags: RawOptions): Promise<Report> {
  return finished(await eventsOf(flags));
}

async function eventsOf(
  flags: RawOptions,
  shouldStop: () => boolean = () => false,
  faults: readonly Fault[] = [],
): Promise<TrainEvent[]> {
  const { config, relaxedSimd } = trainOptions(flags);
  const world = {
    openPod: (options: Parameters<typeof openThreadPod>[0]) =>
      openThreadPod({ ...options, relaxed: relaxedSimd, faults }),
    now: () => performance.now(),
    shouldStop,
  };
  return trainInto([], config, world);
}

function finished(events: readonly TrainEvent[]): Report {
  const last = events.at(-1);
  if (last?.kind !== 'finished') throw new Error(`the run ended with ${last?.kind}`);
  return last.report;
}
