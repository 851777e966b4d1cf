import { describe, expect, test } from 'vitest';
import { openThreadPod, type ThreadPod } from '../../cluster/threads/pool.ts';
import { type Checkpoints, openCheckpoints } from '../../src/experiment/checkpoint/checkpoints.ts';
import type { TrainConfig } from '../../src/experiment/config.ts';
import type { Report, StepCommitted, TrainEvent } from '../../src/experiment/event.ts';
import type { EarlierMasters } from '../../src/experiment/past.ts';
import type { TrainWorld } from '../../src/experiment/train.ts';
import type { Fault } from '../../src/fault/plan.ts';
import { phases } from '../../src/isa/executable.ts';
import { at } from '../../src/numerics/assert.ts';
import type { OpenPod, PodOptions } from '../../src/pod/pod.ts';
import { requireCompiled } from '../cluster/compiled.ts';
import { type MemoryFile, MemoryFiles } from './checkpoint/memory-files.ts';
import { config as base } from './checkpoint/snapshots.ts';
import { trainInto } from './told.ts';

requireCompiled();

/**
 * A run of six steps with 16 samples each. The data set has 80 samples, so the sixth step begins
 * the second pass over the data.
 */
const config: TrainConfig = {
  ...base,
  ...{ topology: { columns: 2, rows: 1 }, globalBatch: 16, data: 'digits:80' },
  ...{ warmUp: 0.5, recovery: 'replace', evaluate: 32 },
};

let whole: TrainEvent[] | undefined;
async function wholeRun(): Promise<TrainEvent[]> {
  whole ??= await collect(config, {});
  return whole;
}

/**
 * Returns what a master reads from the commit log of earlier masters. The log has the first `steps`
 * steps of an uninterrupted run.
 */
async function pastAt(steps: number): Promise<EarlierMasters> {
  return { generation: steps, history: stepsOf(await wholeRun()).slice(0, steps), recoveries: 2 };
}

describe('another master continues a run after the first and all workers were lost', () => {
  test.each(['none', 'replace', 'slice-restart'] as const)(
    'with policy %s, from any step, with the bits of an uninterrupted run',
    async (recovery) => {
      const expected = stepsOf(await wholeRun());
      for (const after of [0, 1, 4, 6]) {
        const past = await pastAt(after);
        const events = await collect({ ...config, recovery }, { past });
        expect(bitsOf(stepsOf(events))).toEqual(bitsOf(expected.slice(after)));
        const report = reportOf(events);
        expect(report).toMatchObject(resultOf(await wholeRun()));
        const times = [...past.history, ...stepsOf(events)].map(({ wallMs }) => wallMs);
        expect(report.stepMs.max).toBe(Math.max(...times));
        const wallMs = times.reduce((sum, it) => sum + it, 0);
        expect(report.imagesPerSecond).toBeCloseTo((6 * 16 * 1000) / wallMs);
        expect(events[1]?.kind === 'resumed' ? events[1].step : 0).toBe(after);
        expect(causesOf(events, 'rolled-back')).toEqual(
          after === 0 ? [] : ['parameters are those after 0, 0 steps'],
        );
      }
    },
    60_000,
  );

  test('from the newest good checkpoint, and names the bad ones', async () => {
    const files = await filesAt(6, 2);
    const newest = files.node('dir/step-0000004/weights.safetensors') as MemoryFile;
    newest.bytes = newest.bytes.slice(0, 4096);
    const checkpoints = await openCheckpoints('dir', { keep: 9, files });
    const plan = { checkpoints, every: 100, resume: false };
    const events = await collect(config, { past: await pastAt(5), checkpoints: plan });
    expect(causesOf(events, 'rolled-back')).toEqual(['parameters are those after 2, 0 steps']);
    const refused = events.filter(({ kind }) => kind === 'checkpoint-refused');
    expect(refused).toEqual([
      {
        kind: 'checkpoint-refused',
        name: 'step-0000004',
        reason: expect.stringMatching(/^weights.*found 4096$/),
      },
    ]);
    expect(stepsOf(events).map(({ step }) => step)).toEqual([6]);
    expect(reportOf(events)).toMatchObject(resultOf(await wholeRun()));
  }, 60_000);

  test('not from a checkpoint of another run', async () => {
    const files = await filesAt(4, 2);
    const checkpoints = await openCheckpoints('dir', { keep: 9, files });
    const other = { ...config, seed: 1 };
    const history = stepsOf(await collect(other, {})).slice(0, 5);
    const plan = { checkpoints, every: 100, resume: false };
    const events = await collect(other, {
      past: { generation: 1, history, recoveries: 0 },
      checkpoints: plan,
    });
    expect(causesOf(events, 'rolled-back')).toEqual(['parameters are those after 0, 0 steps']);
    const refused = events.flatMap((it) => (it.kind === 'checkpoint-refused' ? [it.name] : []));
    expect(refused).toEqual(['step-0000004', 'step-0000002']);
  }, 60_000);

  test('from a checkpoint that is newer than the log, if --resume is given', async () => {
    const plan = async () => ({
      checkpoints: await openCheckpoints('dir', { keep: 9, files: await filesAt(4, 4) }),
      ...{ every: 100, resume: true },
    });
    const events = await collect(config, { past: await pastAt(2), checkpoints: await plan() });
    expect(events[1]).toEqual({
      ...{ kind: 'resumed', checkpoint: 'step-0000004', step: 4, refused: [] },
    });
    expect(stepsOf(events).map(({ step }) => step)).toEqual([5, 6]);
    // Under the earlier masters there were two recoveries. The start of this master is the third.
    expect(reportOf(events).recoveries).toBe(3);
    expect(causesOf(events, 'rolled-back')).toEqual([]);
    const again = await collect(config, { past: await pastAt(5), checkpoints: await plan() });
    expect(again[1]).toMatchObject({ kind: 'resumed', checkpoint: null, step: 5 });
    for (const it of [events, again])
      expect(reportOf(it)).toMatchObject(resultOf(await wholeRun()));
  }, 60_000);

  test('and saves the checkpoint that the first master had not saved yet', async () => {
    const files = await filesAt(2, 2);
    const checkpoints = await openCheckpoints('dir', { keep: 9, files });
    const plan = { checkpoints, every: 2, resume: false };
    await collect(config, { past: await pastAt(4), checkpoints: plan });
    expect(await checkpoints.list()).toEqual(['step-0000006', 'step-0000004', 'step-0000002']);
  }, 60_000);
});

describe('a run loses all copies of its parameters', () => {
  test('because all threads are killed: it rolls back to the newest checkpoint', async () => {
    const files = new MemoryFiles();
    const checkpoints = await openCheckpoints('dir', { keep: 9, files });
    let pod: ThreadPod | undefined;
    const openPod = async (options: PodOptions): Promise<ThreadPod> => {
      pod = await openThreadPod(options);
      return pod;
    };
    const plan = { checkpoints, every: 2, resume: false };
    const events = await collect(config, { openPod, checkpoints: plan }, (event) => {
      if (event.kind !== 'step' || event.step !== 5) return;
      for (let tpu = 0; tpu < 2; tpu++) pod?.kill(tpu);
    });
    expect(causesOf(events, 'rolled-back')).toEqual(['parameters are those after 4, 0 steps']);
    expect(bitsOf(stepsOf(events))).toEqual(bitsOf(stepsOf(await wholeRun())));
    expect(reportOf(events)).toMatchObject(resultOf(await wholeRun()));
  }, 60_000);

  test('with slice-restart, after any loss: it rolls back to the newest checkpoint', async () => {
    const files = new MemoryFiles();
    const checkpoints = await openCheckpoints('dir', { keep: 9, files });
    const faults: Fault[] = [
      { fault: 'throw', tpu: 1, at: { step: 2 } },
      { fault: 'exit', tpu: 0, at: { step: 6, phase: 'all-gather' } },
      { fault: 'exit', tpu: 1, at: { step: 2, phase: 'evaluate' } },
    ];
    const openPod: OpenPod = (options) => openThreadPod({ ...options, faults });
    const plan = { checkpoints, every: 2, resume: false };
    const restarting: TrainConfig = { ...config, recovery: 'slice-restart' };
    const events = await collect(restarting, { openPod, checkpoints: plan });
    expect(causesOf(events, 'rolled-back')).toEqual([
      'parameters are those after 0, 0 steps',
      'parameters are those after 4, 0 steps',
      'parameters are those after 6, 1 steps',
    ]);
    expect(reportOf(events)).toMatchObject({ ...resultOf(await wholeRun()), recoveries: 3 });
  }, 60_000);
});

describe('another master continues a run with the workers of the first', () => {
  test('without writing parameters, from the next step of the run', async () => {
    const past = await pastAt(4);
    const pod = new StandingPod();
    const events = await collect(config, { past, openPod: pod.open });
    expect(pod.options?.start).toEqual({
      generation: 4,
      steps: [4, 0],
      digests: [past.history[3]?.digest, null],
      mustKeepParameters: true,
    });
    expect(pod.asked.slice(0, 3)).toEqual(['step 4 of 0', 'step 5 of 0', 'step 0 of 1']);
    expect(stepsOf(events).map(({ step }) => step)).toEqual([5, 6]);
    // Under the earlier masters there were two recoveries. The start of this master is the third.
    expect(reportOf(events).recoveries).toBe(3);
  });

  test('and writes the initial parameters if no step was committed', async () => {
    const pod = new StandingPod();
    await collect(config, {
      past: { generation: 7, history: [], recoveries: 0 },
      openPod: pod.open,
    });
    expect(pod.options?.start).toEqual({
      ...{ generation: 7, steps: [0, 0], digests: [null, null], mustKeepParameters: false },
    });
    expect(pod.asked.slice(0, 2)).toEqual(['write 0', 'step 0 of 0']);
  });

  test('and runs only the evaluation after the last step', async () => {
    const pod = new StandingPod();
    const events = await collect(config, { past: await pastAt(6), openPod: pod.open });
    expect(pod.asked[0]).toBe('step 0 of 1');
    expect(stepsOf(events)).toEqual([]);
    expect(reportOf(events).finalLoss).toBe((await pastAt(6)).history[5]?.loss);
  });
});

test('a commit log that does not fit the run, or of a diverged run, is refused in one line', async () => {
  const { history } = await pastAt(2);
  const longer = history.map((it) => ({ ...it, steps: 7 }));
  await expect(
    collect(config, { past: { generation: 1, history: longer, recoveries: 0 } }),
  ).rejects.toMatchObject({
    code: 'bad-config',
    message:
      'step 2 was committed by a run of 7 steps, this run has 6 steps: its data set has changed',
  });
  const diverged = history.map((it) => ({ ...it, loss: Number.NaN }));
  await expect(
    collect(config, { past: { generation: 1, history: diverged, recoveries: 0 } }),
  ).rejects.toMatchObject({
    code: 'diverged',
  });
});

/**
 * A fake pod that computes nothing. It numbers the steps of each program. The first step of a
 * program has the number in `options.start`. `asked` lists what the experiment has asked for: steps
 * and writes of parameters.
 */
class StandingPod {
  readonly asked: string[] = [];
  options: PodOptions | undefined;

  readonly open: OpenPod = async (options) => {
    this.options = options;
    const steps = [...(options.start?.steps ?? [])];
    const scalar = new Uint8Array(Float32Array.of(1).buffer);
    return {
      ...{ topology: options.topology, memoryBytes: 0, linkBytes: () => ({}) },
      step: async (program) => {
        const step = steps[program] ?? 0;
        steps[program] = step + 1;
        this.asked.push(`step ${step} of ${program}`);
        const digest = '0'.repeat(16);
        const phaseMs = phases.map(() => 1);
        const outfeed = [scalar, scalar, scalar];
        const reports = [
          { ...{ tpu: 0, program, step, digest }, outfeed, phaseMs, linkWaitMs: [] },
        ];
        return { program, step, digest, reports, wallMs: 7 };
      },
      readParameters: async (program) => {
        const { parameters, buffers } = at(options.programs, program).executable;
        return parameters.map((id) => new Uint8Array(at(buffers, id).bytes));
      },
      writeParameters: async (program) => void this.asked.push(`write ${program}`),
      close: async () => undefined,
    };
  };
}

/**
 * Trains up to step `until`, and saves a checkpoint after every `every` steps. Returns the file
 * system in memory that has the checkpoints.
 */
async function filesAt(until: number, every: number): Promise<MemoryFiles> {
  const files = new MemoryFiles();
  const checkpoints: Checkpoints = await openCheckpoints('dir', { keep: 9, files });
  let last = 0;
  const shouldStop = (): boolean => last >= until;
  const plan = { checkpoints, every, resume: false };
  await collect(config, { checkpoints: plan, shouldStop }, (event) => {
    if (event.kind === 'step') last = event.step;
  });
  return files;
}

async function collect(
  run: TrainConfig,
  world: Partial<TrainWorld>,
  during: (event: TrainEvent) => void = () => undefined,
): Promise<TrainEvent[]> {
  const now = (): number => performance.now();
  return trainInto([], run, { openPod: openThreadPod, now, ...world }, during);
}

function stepsOf(events: readonly TrainEvent[]): StepCommitted[] {
  return events.filter((event) => event.kind === 'step');
}

function bitsOf(steps: readonly StepCommitted[]): unknown[] {
  return steps.map(({ step, digest, loss, accuracy, learningRate }) => {
    return { step, digest, loss, accuracy, learningRate };
  });
}

function causesOf(events: readonly TrainEvent[], about: string): string[] {
  return events.flatMap((it) =>
    it.kind === 'note' && it.note.event === about ? [it.note.cause] : [],
  );
}

function reportOf(events: readonly TrainEvent[]): Report {
  const last = events.at(-1);
  if (last?.kind !== 'finished') throw new Error(`the run ended with ${last?.kind}`);
  return last.report;
}

function resultOf(events: readonly TrainEvent[]): Partial<Report> {
  const { weightsDigest, finalLoss, evalAccuracy, evalSamples } = reportOf(events);
  return { weightsDigest, finalLoss, evalAccuracy, evalSamples };
}
