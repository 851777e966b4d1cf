import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { beatMs } from '../../../cluster/net/trouble.ts';
import { type SimulatedRun, simulateRun } from '../../../cluster/simulated/run.ts';
import type { Fault, LinkFault } from '../../../src/fault/plan.ts';
import { digestsOf, notesOf, undisturbed } from './outcomes.ts';

const run: SimulatedRun = { topology: { columns: 4, rows: 2 }, steps: 8, evaluationSteps: 2 };
const at = { step: 4, phase: 'reduce-scatter', hop: 2 } as const;
const link = [1, 2] as const;

/**
 * A fault of links and the notes that it causes. A note is written as its event and the number of
 * the Cloud TPU, for example `lost 2`.
 */
type Case = readonly [name: string, fault: Fault, notes: readonly string[]];

const suspected = ['suspected 1', 'resumed null'];
const replaced = ['lost 2', 'replaced 2', 'restored 2', 'resumed null'];
const cases: readonly Case[] = [
  ['a corrupt frame', { fault: 'corrupt', link, at }, suspected],
  ['a truncated frame', { fault: 'truncate', link, at }, suspected],
  ['a connection that breaks in a frame', { fault: 'reset', link, at }, suspected],
  ['a lost frame', { fault: 'lose', link, at }, replaced],
  ['a frame that arrives twice', { fault: 'duplicate', link, at }, replaced],
  [
    'half of all frames corrupt',
    { fault: 'corrupt', link, at, share: 0.5, for: { ms: 20 } },
    suspected,
  ],
  ['frames of two lanes in another order', { fault: 'reorder', link, at }, []],
  ['a delay', { fault: 'delay', link, at, ms: 20, jitterMs: 5, for: { steps: 2 } }, []],
  ['a slow link', slowLink(), []],
  ['a link that is down for a while', { fault: 'link-down', link, at, for: { ms: 5000 } }, []],
  ['a short partition', partition(500), []],
  ['a long partition', partition(5000), ['lost 3', 'replaced 3', 'restored 3', 'resumed null']],
];

function slowLink(): Fault {
  const name = 'chip(3,0)+x';
  return {
    fault: 'bandwidth',
    link: name,
    at,
    bytesPerSecond: 9000,
    both: true,
    for: { steps: 2 },
  };
}

function partition(ms: number): Fault {
  return { fault: 'partition', groups: [[0], [3]], at, for: { ms } };
}

describe('a simulated run recovers', () => {
  test.each(cases)('from: %s', async (_, fault, expected) => {
    const { observation } = await simulateRun({ ...run, faults: [fault] });
    expect(observation.message).toBe('');
    expect(observation.injections.map(({ index }) => index)).toEqual([0]);
    expect(notesOf({ observation })).toEqual(expected);
    expect(digestsOf({ observation })).toEqual(digestsOf(await undisturbed(run)));
  });

  test('from a link that is down for half a minute: the silent Cloud TPU is named within 15 s', async () => {
    const faults: readonly Fault[] = [{ fault: 'link-down', link, at, for: { ms: 30_000 } }];
    const { observation } = await simulateRun({ ...run, faults });
    const [first] = observation.notes;
    expect(first?.note).toMatchObject({ event: 'suspected', tpu: 1 });
    expect(first?.note.cause).toContain('nothing has arrived for 10000 ms');
    expect(first?.ms).toBeLessThan(15_000);
    expect(observation.message).toBe('');
    expect(digestsOf({ observation })).toEqual(digestsOf(await undisturbed(run)));
  });

  test('from a lost frame that no other follows: the link is named at the next beat', async () => {
    const last = { step: 2, phase: 'all-gather', hop: 4 } as const;
    const short = { ...run, steps: 4 };
    const faults: readonly Fault[] = [{ fault: 'lose', link, at: last }];
    const { observation } = await simulateRun({ ...short, faults });
    const [first] = observation.notes;
    expect(first?.note).toMatchObject({ event: 'suspected', tpu: 1 });
    expect(first?.note.cause).toContain('12 frames were sent, 11 arrived');
    expect(first && first.ms - (observation.injections[0]?.ms ?? 0)).toBeLessThan(beatMs + 100);
    expect(digestsOf({ observation })).toEqual(digestsOf(await undisturbed(short)));
  });

  test('from a partition for ever: the majority adopts the Cloud TPUs that are cut off', async () => {
    const groups = [
      [0, 1, 4, 5],
      [2, 6],
    ];
    const faults: readonly Fault[] = [{ fault: 'partition', groups, at: { step: 3 } }];
    const { observation } = await simulateRun({ ...run, faults });
    expect(notesOf({ observation }).filter((it) => it.startsWith('adopted'))).toEqual([
      'adopted 2',
      'adopted 6',
    ]);
    expect(digestsOf({ observation })).toEqual(digestsOf(await undisturbed(run)));
  });

  test('from any faults of links that end, with the same weights', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(linkFaults, { minLength: 1, maxLength: 4 }), async (faults) => {
        const { observation } = await simulateRun({ ...run, faults });
        expect(observation.message).toBe('');
        expect(digestsOf({ observation })).toEqual(digestsOf(await undisturbed(run)));
      }),
      { numRuns: 40 },
    );
  });
});

test('a slow link takes the time of its bytes', async () => {
  const ends = async (faults: readonly Fault[]): Promise<number> => {
    const { observation } = await simulateRun({ ...run, steps: 2, evaluationSteps: 0, faults });
    return observation.endMs;
  };
  // A frame has a header of 64 bytes and a payload of 16 to 32 bytes, together 80 to 96 bytes. At
  // 1,000 bytes a second, one frame takes 80 to 96 ms. In a step the link carries 12 frames: for
  // each of 2 lanes, 3 frames in each of 2 phases. The link also carries credits for frames of the
  // opposite link. They take some time too, so the upper limit is the time of 14 frames.
  const slow: Fault = { fault: 'bandwidth', link, bytesPerSecond: 1000, at: { step: 2 } };
  const differenceMs = (await ends([slow])) - (await ends([]));
  expect(differenceMs).toBeGreaterThan(11 * 80);
  expect(differenceMs).toBeLessThan(14 * 96);
});

test('faults of links are the same when the run is repeated', async () => {
  const faults: readonly Fault[] = [
    { fault: 'delay', link, at, ms: 5, jitterMs: 50, for: { steps: 3 } },
    { fault: 'lose', link: [6, 7], at: { step: 5 }, share: 0.3, for: { ms: 10 } },
  ];
  const traffic = async (): Promise<unknown> => (await simulateRun({ ...run, faults })).traffic;
  expect(await traffic()).toEqual(await traffic());
});

const linkFaults: fc.Arbitrary<Fault> = fc
  .record({
    kind: fc.constantFrom(
      'lose',
      'duplicate',
      'reorder',
      'truncate',
      'corrupt',
      'reset',
      'link-down',
    ),
    tpu: fc.nat(7),
    isAlongX: fc.boolean(),
    both: fc.boolean(),
    step: fc.integer({ min: 1, max: 8 }),
    phase: fc.constantFrom('compute', 'reduce-scatter', 'all-reduce', 'all-gather', 'outfeed'),
    ms: fc.integer({ min: 1, max: 1000 }),
    lasts: fc.boolean(),
  })
  .map(({ kind, tpu, isAlongX, both, step, phase, ms, lasts }) => {
    const [x, y] = [tpu % 4, Math.floor(tpu / 4)];
    const to = isAlongX ? 4 * y + ((x + 1) % 4) : 4 * (1 - y) + x;
    const fault = { fault: kind, link: [tpu, to], both, at: { step, phase } } as LinkFault;
    // Each spoiled frame can cause the loss of a Cloud TPU, and a run fails if it loses the same
    // Cloud TPU too often. So a fault that spoils frames lasts at most 100 ms. `link-down` only
    // delays frames, so it may last 1000 ms.
    if (kind === 'link-down') return { ...fault, for: { ms } };
    return lasts ? { ...fault, for: { ms: ms / 10 } } : fault;
  });
