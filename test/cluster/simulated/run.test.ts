import { describe, expect, test } from 'vitest';
import { logOf, type SimulatedRun, simulateRun } from '../../../cluster/simulated/run.ts';
import type { Fault } from '../../../src/fault/plan.ts';
import { digestsOf, notesOf, undisturbed } from './outcomes.ts';

const run: SimulatedRun = { topology: { columns: 4, rows: 2 }, steps: 8, evaluationSteps: 2 };

describe('a simulated run', () => {
  test('commits every step once, in order, with digests that differ', async () => {
    const { observation, traffic } = await simulateRun(run);
    const { commits, outcome, notes } = observation;
    expect(outcome).toBe('done');
    expect(notes).toEqual([]);
    expect(commits.map(({ step }) => step)).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
    expect(new Set(commits.map(({ digest }) => digest)).size).toBe(8);
    expect(new Set(commits.map(({ loss }) => loss)).size).toBe(8);
    // The all-reduce of a step has four lanes. Each lane has two phases along X and two along Y. In
    // each phase, each of the 8 Cloud TPUs sends 3 frames along X, or 1 frame along Y.
    const framesOfStep = 8 * 4 * (2 * 3 + 2 * 1);
    // Each of the 8 Cloud TPUs sends one more frame to each of its three neighbours. This frame
    // says that the Cloud TPU listens.
    const credits = 8 * 3;
    expect(traffic.frames).toBe(8 * framesOfStep + credits);
  });

  test('depends on every Cloud TPU and on the seed of the weights, not on times', async () => {
    const last = async (change: Partial<SimulatedRun>): Promise<unknown> => {
      const { observation } = await simulateRun({ ...run, ...change });
      return observation.commits.at(-1)?.digest;
    };
    const digest = await last({});
    expect(await last({ times: { message: { least: 1, spread: 9000 } } })).toBe(digest);
    expect(await last({ times: { frame: { least: 900, spread: 9 } } })).toBe(digest);
    expect(await last({ seed: 1 })).not.toBe(digest);
    expect(await last({ buckets: 2 })).not.toBe(digest);
    expect(await last({ topology: { columns: 2, rows: 4 } })).not.toBe(digest);
  });

  test('has the same events, byte for byte, when it is repeated', async () => {
    const faults: readonly Fault[] = [
      { fault: 'kill', tpu: 3, at: { step: 2, phase: 'all-reduce', hop: 3 } },
      { fault: 'pause', tpu: 1, at: { step: 3 }, for: { ms: 700 } },
      { fault: 'slow', tpu: 5, factor: 3, at: { step: 3 }, for: { steps: 2 } },
      { fault: 'flip-bit', in: 'weights', tpu: 6, at: { step: 5 } },
      { fault: 'hang', tpu: 0, at: { step: 7, phase: 'update' } },
    ];
    const first = await simulateRun({ ...run, faults });
    // The next three simulations take turns in this thread. Each must have the same events as if it
    // ran alone.
    const [second, third, other] = await Promise.all([
      simulateRun({ ...run, faults }),
      simulateRun({ ...run, faults }),
      simulateRun({ ...run, faults, seed: 2 }),
    ]);
    expect(first.observation.injections.length).toBe(faults.length);
    expect(logOf(first).split('\n').length).toBeGreaterThan(300);
    expect(logOf(second)).toBe(logOf(first));
    expect(logOf(third)).toBe(logOf(first));
    expect(logOf(other)).not.toBe(logOf(first));
  });
});

/** A fault, and the notes that it causes, each as event and number of the Cloud TPU: `lost 3`. */
type Case = readonly [name: string, fault: Fault, notes: readonly string[]];

const replaced = ['lost 3', 'replaced 3', 'restored 3', 'resumed null'];
const repeated = ['suspected 3', 'restored 3', 'resumed null'];
const hop = { step: 4, phase: 'reduce-scatter', hop: 2 } as const;
const cases: readonly Case[] = [
  ['kill', { fault: 'kill', tpu: 3, at: hop }, replaced],
  ['exit', { fault: 'exit', tpu: 3, at: { step: 4, phase: 'outfeed' } }, replaced],
  ['throw', { fault: 'throw', tpu: 3, at: { step: 4, phase: 'infeed' } }, replaced],
  ['out-of-memory', { fault: 'out-of-memory', tpu: 3, at: { step: 4 } }, replaced],
  ['hang', { fault: 'hang', tpu: 3, at: hop }, replaced],
  ['hang in a batch of the evaluation', hangIn({ step: 2, phase: 'evaluate' }), replaced],
  ['hang before it joins', hangIn({ during: 'joining' }), ['adopted 3', 'resumed null']],
  ['short pause', { fault: 'pause', tpu: 3, at: hop, for: { ms: 300 } }, []],
  ['long pause', { fault: 'pause', tpu: 3, at: hop, for: { ms: 5000 } }, replaced],
  ['straggler', { fault: 'slow', tpu: 3, at: hop, factor: 5, for: { steps: 2 } }, []],
  ['weights', { fault: 'flip-bit', in: 'weights', tpu: 3, at: { step: 4 } }, repeated],
  [
    'sums',
    { fault: 'flip-bit', in: 'reduce-buffer', tpu: 3, at: { step: 4, phase: 'update' } },
    repeated,
  ],
];

function hangIn(at: Fault['at']): Fault {
  return { fault: 'hang', tpu: 3, at };
}

describe('a simulated run recovers', () => {
  test.each(cases)('from: %s', async (_, fault, expected) => {
    const { observation } = await simulateRun({ ...run, faults: [fault] });
    expect(observation.injections.map(({ index }) => index)).toEqual([0]);
    expect(notesOf({ observation })).toEqual(expected);
    expect(observation.outcome).toBe('done');
    expect(digestsOf({ observation })).toEqual(digestsOf(await undisturbed(run)));
  });

  test('and names a straggler', async () => {
    const fault: Fault = { fault: 'slow', tpu: 3, factor: 2, at: { step: 2 } };
    const { observation } = await simulateRun({ ...run, faults: [fault] });
    expect(observation.stragglers.map(({ tpu }) => tpu)).toEqual([3]);
  });

  test('with a worker that adopts a lost Cloud TPU, if no replacement joins in time', async () => {
    const times = { replace: { least: 15_000_000, spread: 0 } };
    const faults: readonly Fault[] = [{ fault: 'kill', tpu: 3, at: hop }];
    const { observation } = await simulateRun({ ...run, times, faults });
    expect(notesOf({ observation })).toEqual([
      ...['lost 3', 'adopted 3', 'replaced 3', 'restored 3', 'resumed null'],
    ]);
    expect(observation.outcome).toBe('done');
  });

  test('from the loss of a worker that has adopted a Cloud TPU: both are lost', async () => {
    const times = { replace: { least: 15_000_000, spread: 0 } };
    const faults: readonly Fault[] = [
      { fault: 'kill', tpu: 3, at: hop },
      { fault: 'kill', tpu: 4, at: { step: 6 } },
    ];
    const { observation } = await simulateRun({ ...run, times, faults });
    const lost = observation.notes.filter(({ note }) => note.event === 'lost');
    expect(lost.map(({ note }) => note.tpu)).toEqual([3, 4, 3]);
    expect(digestsOf({ observation })).toEqual(digestsOf(await undisturbed(run)));
  });

  test('from a checkpoint, if all Cloud TPUs are lost at once', async () => {
    const faults = Array.from({ length: 8 }, (_, tpu): Fault => {
      return { fault: 'kill', tpu, at: { step: 6 } };
    });
    const { observation } = await simulateRun({ ...run, faults, checkpointEvery: 4 });
    const rollback = observation.notes.find(({ note }) => note.event === 'rolled-back');
    expect(rollback?.note.cause).toBe('parameters are those after 4, 0 steps');
    expect(digestsOf({ observation })).toEqual(digestsOf(await undisturbed(run)));
  });

  test('and fails with a message that names the Cloud TPU that is lost too often', async () => {
    const faults = Array.from({ length: 7 }, (): Fault => {
      return { fault: 'kill', tpu: 3, at: { step: 4 } };
    });
    const { observation } = await simulateRun({ ...run, faults });
    expect(observation.outcome).toBe('failed');
    expect(observation.message).toMatch(/^Cloud TPU 3 .* it was lost too often$/);
    expect(observation.commits.length).toBe(3);
  });
});
