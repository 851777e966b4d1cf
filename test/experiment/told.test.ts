import { expect, test } from 'vitest';
import type { TrainConfig } from '../../src/experiment/config.ts';
import type { Note, TrainEvent } from '../../src/experiment/event.ts';
import { phases } from '../../src/isa/executable.ts';
import { at } from '../../src/numerics/assert.ts';
import type { Pod, PodOptions } from '../../src/pod/pod.ts';
import { config as base } from './checkpoint/snapshots.ts';
import { trainInto } from './told.ts';

const config: TrainConfig = { ...base, data: 'digits:40', length: { unit: 'steps', steps: 3 } };

const note = (event: Note['event']): Note => ({
  ...{ event, generation: 1, program: 0, step: 1, tpu: 0, cause: 'a test', elapsedMs: 1 },
});

/** A pod that computes nothing. Calls `during` in each training step, before the commit. */
class FakePod {
  isClosed = false;
  readonly #during: (options: PodOptions, step: number) => void;

  constructor(during: (options: PodOptions, step: number) => void = () => undefined) {
    this.#during = during;
  }

  readonly open = async (options: PodOptions): Promise<Pod> => {
    const steps = [0, 0];
    const scalar = new Uint8Array(Float32Array.of(1).buffer);
    const digest = '0'.repeat(16);
    return {
      ...{ topology: options.topology, memoryBytes: 0, linkBytes: () => ({}) },
      step: async (program) => {
        const step = at(steps, program);
        steps[program] = step + 1;
        if (program === 0) this.#during(options, step + 1);
        await new Promise((resolve) => setTimeout(resolve, 1));
        const report = {
          tpu: 0,
          program,
          step,
          digest,
          phaseMs: phases.map(() => 1),
          linkWaitMs: [],
        };
        const reports = [{ ...report, outfeed: [scalar, scalar, scalar] }];
        return { program, step, digest, reports, wallMs: 7 };
      },
      readParameters: async (program) => {
        const { parameters, buffers } = at(options.programs, program).executable;
        return parameters.map((id) => new Uint8Array(at(buffers, id).bytes));
      },
      writeParameters: async () => undefined,
      close: async () => {
        this.isClosed = true;
      },
    };
  };
}

const world = (pod: FakePod) => ({ openPod: pod.open, now: () => performance.now() });

test('a note is told once, at the moment when the pod gives it', async () => {
  const told: TrainEvent[] = [];
  const atNote: (number | undefined)[] = [];
  const pod = new FakePod((options, step) => {
    if (step !== 2) return;
    for (const event of ['lost', 'resumed'] as const) {
      options.onNote?.(note(event));
      atNote.push(told.findIndex((it) => it.kind === 'note' && it.note.event === event));
      expect(atNote.at(-1)).toBe(told.length - 1);
    }
  });
  const events = await trainInto(told, config, world(pod));
  expect(atNote).toHaveLength(2);
  expect(events.map(({ kind }) => kind)).toEqual([
    ...['started', 'ready', 'step', 'note', 'note', 'step', 'step', 'evaluating', 'evaluated'],
    'finished',
  ]);
  expect(events.at(-1)).toMatchObject({ report: { recoveries: 1 } });
});

test('a step is committed before it is told, and a step that cannot be committed is not told', async () => {
  const told: TrainEvent[] = [];
  const steps = (): number[] => told.flatMap((it) => (it.kind === 'step' ? [it.step] : []));
  const pod = new FakePod();
  const commit = ({ step }: { readonly step: number }): void => {
    expect(steps()).toEqual(Array.from({ length: step - 1 }, (_, i) => i + 1));
    if (step === 3) throw new Error('the disk is full');
  };
  await expect(trainInto(told, config, { ...world(pod), commit })).rejects.toThrow('disk is full');
  expect(steps()).toEqual([1, 2]);
  expect(pod.isClosed).toBe(true);
});

test('what a receiver of events throws ends the run and closes the pod', async () => {
  const pod = new FakePod();
  const told: TrainEvent[] = [];
  const trained = trainInto(told, config, world(pod), ({ kind }) => {
    if (kind === 'step') throw new Error('the log is full');
  });
  await expect(trained).rejects.toThrow('the log is full');
  expect(pod.isClosed).toBe(true);
  expect(told.at(-1)?.kind).toBe('step');
});
