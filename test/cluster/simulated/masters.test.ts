import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  logOf,
  type SimulatedOutcome,
  type SimulatedRun,
  simulateRun,
} from '../../../cluster/simulated/run.ts';
import { lostCommit, wrongCheckpoint } from '../../../src/fault/kept.ts';
import type { DiskFault, Fault, MasterFault, Position } from '../../../src/fault/plan.ts';
import { lostCheckpointIn } from '../../../src/fault/verdict.ts';
import { notesOf, resultOf, undisturbed } from './outcomes.ts';

const run: SimulatedRun = {
  ...{ topology: { columns: 2, rows: 2 }, steps: 10, evaluationSteps: 2, checkpointEvery: 4 },
};
const compute = { step: 6 } as const;
const commit = { step: 6, phase: 'commit' } as const;
const checkpoint = { step: 8, phase: 'checkpoint' } as const;

/**
 * A fault and its consequences. `ends` says how each master of the run ended, in order. `notes` has
 * a text for each note, which consists of the note's event and the number of the Cloud TPU, for
 * example `lost 2`.
 */
type Case = readonly [
  name: string,
  fault: MasterFault | DiskFault,
  ends: readonly string[],
  notes?: readonly string[],
];

const followed = ['killed', 'done'];
const all = [0, 1, 2, 3];
const cases: readonly Case[] = [
  ['a master killed before it writes a commit', kill(commit), followed],
  ['a master killed before its first commit', kill({ step: 1, phase: 'commit' }), followed],
  ['a master killed before it saves a checkpoint', kill(checkpoint), followed],
  ['a master killed in a step', kill(compute), followed],
  ['a master killed at a hop', kill({ step: 6, phase: 'reduce-scatter', hop: 2 }), followed],
  ['a master killed when a step ends', kill({ step: 6, phase: 'outfeed' }), followed],
  ['a master killed in the evaluation', kill({ step: 2, phase: 'evaluate' }), followed],
  ['a master killed while workers join', kill({ during: 'joining' }), followed],
  ['a master killed while workers load', kill({ during: 'loading' }), followed],
  ['a short pause of the master', lasting('master-pause', compute, 300), ['done']],
  ['a long pause of the master', lasting('master-pause', commit, 5000), ['done']],
  ['a master cut off for a short time', lasting('master-cut-off', compute, 500), ['done']],
  [
    'a master cut off for so long that it takes all workers for lost',
    lasting('master-cut-off', compute, 5000),
    ['done'],
    [...all.map((tpu) => `lost ${tpu}`), ...all.map((tpu) => `replaced ${tpu}`), 'resumed null'],
  ],
  [
    'a second master, which waits until the first leaves the checkpoints',
    { fault: 'second-master', at: compute },
    ['in-use', 'superseded', 'done'],
  ],
  ['a full disk', lasting('disk-full', commit, 700), ['io', 'io', 'done']],
  ['a disk that is full during a checkpoint', lasting('disk-full', checkpoint, 2), ['done']],
  ['a torn commit', { fault: 'torn-write', at: commit }, followed],
  ['a torn checkpoint', { fault: 'torn-write', at: checkpoint }, followed],
  ['a checkpoint whose rename is lost', { fault: 'lost-rename', at: checkpoint }, followed],
  ['a damaged checkpoint', { fault: 'unreadable-checkpoint', at: { step: 9 } }, ['done']],
  ['a slow disk', { fault: 'slow-disk', at: checkpoint, ms: 5, for: { ms: 1000 } }, ['done']],
];

const named = cases.map(
  ([name, fault, ends, notes = []]) => [name, { fault, ends, notes }] as const,
);

function kill(at: Position): MasterFault {
  return { fault: 'master-kill', at };
}

function lasting(
  fault: 'master-pause' | 'master-cut-off' | 'disk-full',
  at: Position,
  ms: number,
): MasterFault | DiskFault {
  return { fault, at, for: { ms } };
}

test('a run with several masters has the same events, byte for byte, when it is repeated', async () => {
  const faults: readonly Fault[] = [
    kill({ step: 2, phase: 'commit' }),
    { fault: 'torn-write', at: { step: 4, phase: 'checkpoint' } },
    { fault: 'kill', tpu: 3, at: compute },
    { fault: 'second-master', at: { step: 7 } },
    lasting('disk-full', { step: 9 }, 300),
  ];
  const [first, second] = [
    await simulateRun({ ...run, faults }),
    await simulateRun({ ...run, faults }),
  ];
  expect(first.observation.injections.length).toBe(faults.length);
  expect(endsOf(first).length).toBeGreaterThan(4);
  expect(logOf(second)).toBe(logOf(first));
});

describe('a simulated run goes on', () => {
  test.each(named)('after %s', async (_, { fault, ends, notes }) => {
    const outcome = await simulateRun({ ...run, faults: [fault] });
    expect(outcome.observation.message).toBe('');
    expect(outcome.observation.injections.map(({ index }) => index)).toEqual([0]);
    expect(endsOf(outcome)).toEqual(ends);
    expect([...notesOf(outcome)].sort()).toEqual([...notes].sort());
    expect(resultOf(outcome)).toEqual(resultOf(await undisturbed(run)));
  });

  test.each([compute, commit])(
    'with a second master, to which the workers go over: %j',
    async (at) => {
      const { checkpointEvery: _, ...without } = run;
      const faults: readonly Fault[] = [{ fault: 'second-master', at }];
      const outcome = await simulateRun({ ...without, faults });
      expect(endsOf(outcome)).toEqual(['superseded', 'done']);
      expect(notesOf(outcome)).toEqual([]);
      expect(resultOf(outcome)).toEqual(resultOf(await undisturbed(run)));
      const { events } = outcome;
      const superseded = events.findIndex((it) => it.event === 'master-ended');
      const second = events.findIndex((it) => it.event === 'master-began' && it.master === 2);
      const between = events.slice(second, superseded);
      expect(between.filter(({ event }) => event === 'committed')).toEqual([]);
    },
  );

  test('from the older checkpoint, if the newest is damaged and all workers are lost', async () => {
    const faults: readonly Fault[] = [
      { fault: 'unreadable-checkpoint', at: { step: 10 } },
      ...all.map((tpu): Fault => ({ fault: 'kill', tpu, at: { step: 10, phase: 'outfeed' } })),
    ];
    const outcome = await simulateRun({ ...run, faults });
    expect(rollbackOf(outcome)).toBe('parameters are those after 4, 0 steps');
    expect(resultOf(outcome)).toEqual(resultOf(await undisturbed(run)));
  });

  test('with the checkpoint of step 8 after a loss of power in step 10', async () => {
    const faults: readonly Fault[] = [
      { fault: 'torn-write', at: { step: 10, phase: 'commit' } },
      ...all.map(
        (tpu): Fault => ({ fault: 'kill', tpu, at: { during: 'loading', generation: 2 } }),
      ),
    ];
    const outcome = await simulateRun({ ...run, faults });
    expect(rollbackOf(outcome)).toBe('parameters are those after 8, 0 steps');
    expect(resultOf(outcome)).toEqual(resultOf(await undisturbed(run)));
  });

  test('and fails if the disk stays full', async () => {
    const faults: readonly Fault[] = [{ fault: 'disk-full', at: compute }];
    const { observation } = await simulateRun({ ...run, faults });
    expect(observation.outcome).toBe('failed');
    expect(observation.message).toMatch(/^commit log \/run\/commits.jsonl: ENOSPC/);
    expect(observation.commits.length).toBe(5);
  });

  test('after any mix of faults of masters, disks and workers, with the same results', async () => {
    await fc.assert(
      fc.asyncProperty(mixes, async (faults) => {
        const outcome = await simulateRun({ ...run, faults });
        expect(outcome.observation.message).toBe('');
        expect(outcome.observation.commits.map(({ step }) => step)).toEqual(stepsOf(run));
        expect(resultOf(outcome)).toEqual(resultOf(await undisturbed(run)));
        const { kept, commits } = outcome.observation;
        expect(kept?.end).toMatchObject({ log: commits.map(({ step }) => ({ step })) });
        expect(lostCommit(kept, commits)).toBeUndefined();
        expect(lostCheckpointIn(outcome.observation)).toBeUndefined();
        expect(wrongCheckpoint(kept, commits)).toBeUndefined();
      }),
      { numRuns: 60 },
    );
  });
});

const positions: fc.Arbitrary<Position> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ step: step(), phase: fc.constant('commit' as const) }) },
  {
    weight: 2,
    arbitrary: fc.record({
      step: fc.constantFrom(4, 8, 10),
      phase: fc.constant('checkpoint' as const),
    }),
  },
  { weight: 4, arbitrary: placesOfWorkers() },
);

function step(): fc.Arbitrary<number> {
  return fc.integer({ min: 1, max: run.steps });
}

function placesOfWorkers(): fc.Arbitrary<Position> {
  const phases = [
    'infeed',
    'compute',
    'reduce-scatter',
    'all-gather',
    'update',
    'outfeed',
  ] as const;
  return fc.oneof(
    { weight: 4, arbitrary: fc.record({ step: step(), phase: fc.constantFrom(...phases) }) },
    fc.record({ step: fc.integer({ min: 1, max: 2 }), phase: fc.constant('evaluate' as const) }),
    fc.record({
      during: fc.constantFrom('joining' as const, 'loading' as const),
      generation: fc.integer({ min: 1, max: 4 }),
    }),
  );
}

const times = fc.record({ ms: fc.integer({ min: 1, max: 3000 }) });
const mixes = fc.array(
  fc.oneof(
    {
      weight: 3,
      arbitrary: fc.record({
        fault: fc.constantFrom('master-kill', 'second-master', 'torn-write', 'lost-rename'),
        at: positions,
      }),
    },
    fc.record({
      fault: fc.constantFrom('master-pause', 'master-cut-off', 'disk-full'),
      ...{ at: positions, for: times },
    }),
    fc.record({ fault: fc.constant('unreadable-checkpoint'), at: positions }),
    fc.record({
      ...{ fault: fc.constant('slow-disk'), at: positions, for: times },
      ms: fc.integer({ min: 1, max: 200 }),
    }),
    fc.record({
      fault: fc.constantFrom('kill', 'hang'),
      ...{ tpu: fc.nat(3), at: placesOfWorkers() },
    }),
  ) as fc.Arbitrary<Fault>,
  { minLength: 1, maxLength: 5 },
);

/** How the masters of a run ended, in order. */
function endsOf({ events }: SimulatedOutcome): readonly string[] {
  return events.flatMap((it) => (it.event === 'master-ended' ? [it.how] : []));
}

/** Cause of the first return to a checkpoint. */
function rollbackOf({ observation }: SimulatedOutcome): string | undefined {
  return observation.notes.find(({ note }) => note.event === 'rolled-back')?.note.cause;
}

function stepsOf({ steps }: SimulatedRun): readonly number[] {
  return Array.from({ length: steps }, (_, i) => i + 1);
}
