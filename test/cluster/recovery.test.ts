import { afterEach, beforeAll, describe, expect, test } from 'vitest';
import {
  openThreadPod,
  type ThreadPod,
  type ThreadPodOptions,
} from '../../cluster/threads/pool.ts';
import { openDataset } from '../../src/data/open.ts';
import type { Fault } from '../../src/fault/plan.ts';
import { PodError } from '../../src/numerics/error.ts';
import type { Note } from '../../src/pod/master/action.ts';
import { bytesOf } from '../chip/bench-tpu.ts';
import { requireCompiled } from './compiled.ts';
import { learning, showing, weightCount } from './programs.ts';

beforeAll(requireCompiled);

const opened: ThreadPod[] = [];
afterEach(async () => {
  await Promise.all(opened.splice(0).map((pod) => pod.close()));
});

const tpus = 4;
const batch = 2;
const steps = 5;
const initial = Float32Array.from({ length: weightCount }, (_, i) => i / 64 - 0.5);

/** A finished run: the digest after each step, and the notes about losses and recoveries. */
interface Run {
  readonly pod: ThreadPod;
  readonly digests: readonly string[];
  readonly notes: readonly Note[];
}

async function open(options: Partial<ThreadPodOptions>, notes: Note[] = []): Promise<ThreadPod> {
  const feed = {
    dataset: 'digits:200',
    datasetSeed: 4,
    split: 'train',
    digest: openDataset('digits:200', 4).train.digest(),
    globalBatch: tpus * 8 * batch,
    order: 'training',
    orderSeed: 9,
  } as const;
  const pod = await openThreadPod({
    topology: { columns: 2, rows: 2 },
    mxu: 'fast',
    recovery: 'replace',
    onNote: (note) => notes.push(note),
    programs: [
      { executable: learning(batch, tpus), digested: 1, feed },
      { executable: showing(), digested: 1, parametersFrom: 0 },
    ],
    ...options,
  });
  opened.push(pod);
  await pod.writeParameters(0, [bytesOf(initial)]);
  return pod;
}

/**
 * Trains steps 0 to 4. After step 2 and after step 4, also runs a second program, which outputs the
 * weights. Calls `during` while a step of one of the two programs runs. The argument `step` of
 * `during` counts the steps of both programs, from 0.
 */
async function run(
  options: Partial<ThreadPodOptions>,
  during?: (pod: ThreadPod, step: number) => void,
): Promise<Run> {
  const notes: Note[] = [];
  const pod = await open(options, notes);
  const digests: string[] = [];
  const commit = async (program: number, step: number): Promise<void> => {
    const committed = pod.step(program);
    during?.(pod, digests.length);
    const { digest, step: found } = await committed;
    expect(found).toBe(step);
    digests.push(digest);
  };
  for (let step = 0; step < steps; step++) {
    await commit(0, step);
    if (step === 2) await commit(1, 0);
  }
  await commit(1, 1);
  return { pod, digests, notes };
}

let undisturbed: readonly string[];
beforeAll(async () => {
  const { pod, digests, notes } = await run({ recovery: 'none' });
  await pod.close();
  undisturbed = digests;
  expect(notes).toEqual([]);
  expect(new Set(digests).size).toBe(steps);
});

function eventsOf(notes: readonly Note[]): string[] {
  return notes.map(({ event, tpu }) => (tpu === null ? event : `${event} ${tpu}`));
}

type Ending = 'throw' | 'exit' | 'hang';

/** Returns a fault of Cloud TPU `tpu` at the start of the all-reduce of step `step` (from 0). */
const fault = (kind: Ending, step: number, tpu = 1): Fault => ({
  fault: kind,
  tpu,
  at: { step: step + 1, phase: 'reduce-scatter' },
});

/** Returns a fault of a Cloud TPU while it loads its programs for membership `generation`. */
const loading = (kind: Ending, generation: number, tpu = 1): Fault => ({
  fault: kind,
  tpu,
  at: { during: 'loading', generation },
});

/** Returns a fault that flips one bit of the summed gradients in one Cloud TPU, in one step. */
const corrupted = (step: number, tpu = 1): Fault => ({
  fault: 'flip-bit',
  in: 'reduce-buffer',
  tpu,
  at: { step: step + 1, phase: 'update' },
});

const recovered = ['lost 1', 'replaced 1', 'restored 1', 'resumed'];

describe('a run that loses Cloud TPUs ends with the bits of an undisturbed run', () => {
  test.each(['throw', 'exit', 'hang'] as const)(
    'after the fault %s at every step',
    async (kind) => {
      const places = kind === 'hang' ? [2] : [0, 1, 2, 3, 4];
      const { digests, notes } = await run({
        faults: places.map((step) => fault(kind, step)),
      });
      expect(digests).toEqual(undisturbed);
      expect(eventsOf(notes)).toEqual(places.flatMap(() => recovered));
      const lost = notes.filter(({ event }) => event === 'lost');
      expect(lost.map(({ step }) => step)).toEqual(places);
      for (const { cause } of lost) expect(cause).toMatch(/^Cloud TPU 1 \(x 1, y 0\), in step /);
    },
  );

  test('after kills of threads at any moment', async () => {
    const { digests, notes } = await run({}, (pod, step) => {
      setTimeout(() => pod.kill(step % tpus), step);
    });
    expect(digests).toEqual(undisturbed);
    expect(notes.filter(({ event }) => event === 'lost').length).toBeGreaterThan(2);
  });

  test('after the kill of a thread between two steps', async () => {
    const { digests, notes } = await run({}, (pod, step) => {
      if (step === 3) pod.kill(2);
    });
    expect(digests).toEqual(undisturbed);
    expect(eventsOf(notes)).toContain('lost 2');
  });

  test('after repeated kills of a replacement while it starts', async () => {
    let pod: ThreadPod | undefined;
    const notes: Note[] = [];
    const onNote = (note: Note): void => {
      notes.push(note);
      const lost = notes.filter(({ event }) => event === 'lost').length;
      // 20 ms after the loss of Cloud TPU 1, its new thread has started but has no task yet. The
      // kill must hit the thread in this state.
      if (note.event === 'lost' && lost < 3) setTimeout(() => pod?.kill(1), 20);
    };
    const { digests } = await run({ onNote }, (it, step) => {
      pod = it;
      if (step === 2) it.kill(1);
    });
    expect(digests).toEqual(undisturbed);
    expect(eventsOf(notes)).not.toContain('adopted 1');
    expect(notes.at(-1)?.event).toBe('resumed');
  });

  test('after several losses at once and again during their replacement', async () => {
    const { digests, notes } = await run({
      faults: [
        fault('exit', 2),
        // Cloud TPU 3 must be lost in step 2 too. A throw of Cloud TPU 3 causes no loss if the
        // master has already aborted the step. An aborted step runs again, and then the next
        // planned throw takes effect. So several throws are planned.
        ...[1, 2, 3].map(() => fault('throw', 2, 3)),
        loading('exit', 2),
        loading('throw', 2, 3),
        fault('exit', 2, 0),
        fault('throw', 4),
      ],
    });
    expect(digests).toEqual(undisturbed);
    const events = eventsOf(notes);
    expect(events.filter((it) => it === 'lost 1')).toHaveLength(3);
    expect(events.filter((it) => it === 'lost 3').length).toBeGreaterThanOrEqual(2);
    expect(events.at(-1)).toBe('resumed');
  });

  test('after the loss of all: from the parameters written last, with the steps since', async () => {
    const { digests, notes } = await run({}, (pod, step) => {
      if (step !== 2) return;
      for (let tpu = 0; tpu < tpus; tpu++) pod.kill(tpu);
    });
    expect(digests).toEqual(undisturbed);
    expect(eventsOf(notes)).toContain('rolled-back');
  });

  test('with slice-restart, from the last checkpoint', async () => {
    const saved: { steps: number; values: readonly Uint8Array[] }[] = [];
    const notes: Note[] = [];
    const pod = await open(
      {
        recovery: 'slice-restart',
        faults: [fault('exit', 1), fault('throw', 4)],
        saved: async (_, most) => saved.filter((it) => it.steps <= most).at(-1),
      },
      notes,
    );
    const digests: string[] = [];
    for (let step = 0; step < steps; step++) {
      digests.push((await pod.step(0)).digest);
      if (step === 1) saved.push({ steps: 2, values: await pod.readParameters(0) });
    }
    expect(digests).toEqual(undisturbed.filter((_, i) => i !== 3 && i < 6));
    const rolledBack = notes.filter(({ event }) => event === 'rolled-back');
    expect(rolledBack.map(({ cause }) => cause)).toEqual([
      'parameters are those after 0, 0 steps',
      'parameters are those after 2, 0 steps',
    ]);
  });
});

describe('memberships are recorded', () => {
  const faults = [fault('throw', 1), fault('exit', 3, 2)];

  test('each one but the first, in order, before any note about it', async () => {
    const seen: string[] = [];
    const { digests } = await run({
      faults,
      onMembership: (generation) => seen.push(`membership ${generation}`),
      onNote: ({ event, generation }) => seen.push(`${event} in ${generation}`),
    });
    expect(digests).toEqual(undisturbed);
    const story = (generation: number): string[] => [
      ...[`membership ${generation}`, `lost in ${generation - 1}`],
      ...[`replaced in ${generation}`, `restored in ${generation}`, `resumed in ${generation}`],
    ];
    expect(seen).toEqual([...story(2), ...story(3)]);
  });

  test('and a failure to record one ends the run before any replacement', async () => {
    const notes: Note[] = [];
    const onMembership = (): void => {
      throw new PodError('superseded', 'another master leads');
    };
    const onNote = (note: Note): void => void notes.push(note);
    await expect(run({ faults, onMembership, onNote })).rejects.toMatchObject({
      ...{ code: 'superseded', exitCode: 3 },
      message: 'the log of the run failed: another master leads',
    });
    expect(notes).toEqual([]);
  });
});

describe('silent corruption of weights', () => {
  test('on a minority is found by the majority and repaired with the weights of another', async () => {
    const { digests, notes } = await run({ faults: [corrupted(1), corrupted(3)] });
    expect(digests).toEqual(undisturbed);
    const again = ['quarantined 1', 'replaced 1', 'restored 1', 'resumed'];
    expect(eventsOf(notes)).toEqual(['suspected 1', 'restored 1', 'resumed', ...again]);
    expect(notes[0]!.cause).toMatch(
      /^step 2 of the training differs: Cloud TPU 1 .* 3 others have/,
    );
  });

  test('without a majority makes the step run again, then ends the run with both sides named', async () => {
    const faults = [corrupted(1), corrupted(1, 3)];
    const { digests, notes } = await run({ faults });
    expect(digests).toEqual(undisturbed);
    expect(eventsOf(notes)).toEqual(['suspected', 'resumed']);
    await expect(run({ faults: [...faults, ...faults] })).rejects.toMatchObject({
      code: 'digest-mismatch',
      message: expect.stringMatching(/Cloud TPU 0 .*Cloud TPU 2 .*no majority, again$/),
    });
  });
});

test('a Cloud TPU that is lost again and again ends the run', async () => {
  await expect(
    run({ faults: Array.from({ length: 7 }, () => fault('throw', 2)) }),
  ).rejects.toMatchObject({
    code: 'worker-threw',
    message: expect.stringMatching(
      /^Cloud TPU 1 .*in step 3 of the training, .*; it was lost too often$/,
    ),
  });
});
