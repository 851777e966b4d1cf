import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { causedMs, causesOf, linksOf, type SliceLinks } from '../../src/experiment/link-causes.ts';
import { timingOf } from '../../src/experiment/step-timing.ts';
import { slowestOf } from '../../src/experiment/straggler.ts';
import { flatTorus, podTorus, type Torus } from '../../src/fabric/torus.ts';
import type { StepReport } from '../../src/pod/messages.ts';
import { makeSlice } from '../fabric/slice.ts';

/** Slices of 2 to 12 Cloud TPUs. All Cloud TPUs of a slice have four chips, or all have one. */
const slices: fc.Arbitrary<Torus> = fc
  .tuple(fc.integer({ min: 1, max: 4 }), fc.integer({ min: 1, max: 3 }), fc.boolean())
  .filter(([columns, rows]) => columns * rows > 1)
  .map(([columns, rows, isFlat]) =>
    isFlat ? flatTorus(columns, rows) : podTorus({ columns, rows }),
  );

interface Delay {
  readonly tpu: number;
  /** Phase to which the report counts the time for which the Cloud TPU stands still. */
  readonly phase: 'compute' | 'all-reduce';
  /** Number of rounds before the Cloud TPU stands still. */
  readonly rounds: number;
  readonly ms: number;
}

const workMs = 40;

/**
 * Runs one step with a real all-reduce, in rounds. The clock advances by 1 ms in each round. In a
 * round, one Cloud TPU after another makes all hops for which it has frames. Cloud TPU `slow` goes
 * first. So in round 0 it has no frames of others yet, and makes only its first hop. From round
 * `rounds` on, Cloud TPU `slow` stands still for `ms` rounds.
 */
function stepWith(torus: Torus, { tpu: slow, phase, rounds, ms }: Delay): StepReport[] {
  let nowMs = 0;
  const clock = { now: () => nowMs, idleMsMax: 1 };
  const { workers } = makeSlice(torus, [400], clock);
  const doneMs = workers.map(() => 0);
  const isStill = (tpu: number): boolean => tpu === slow && nowMs >= rounds && nowMs < rounds + ms;
  const order = [...workers.entries()].sort(([a], [b]) => Number(b === slow) - Number(a === slow));
  while (workers.some((it, tpu) => it.isBusy || doneMs[tpu] === 0)) {
    for (const [tpu, worker] of order) {
      if (isStill(tpu)) continue;
      if (doneMs[tpu] === 0 && !worker.isBusy) worker.start(0);
      worker.progress();
      if (doneMs[tpu] === 0 && !worker.isBusy) doneMs[tpu] = nowMs + 1;
    }
    nowMs++;
  }
  return workers.map((worker, tpu) => {
    const lateMs = tpu === slow && phase === 'compute' ? ms : 0;
    const reduceMs = (doneMs[tpu] ?? 0) - lateMs;
    return {
      ...{ tpu, program: 0, step: 0, digest: '', outfeed: [], linkWaitMs: worker.takeWaits() },
      phaseMs: [1, workMs + lateMs, reduceMs, 1, 1],
    };
  });
}

const delays = fc.tuple(slices, fc.nat(), fc.integer({ min: 500, max: 5000 }));

describe('the Cloud TPU that is named', () => {
  test('is the one that stands still in the all-reduce, in a slice of any size', () => {
    fc.assert(
      fc.property(delays, ([torus, pick, ms]) => {
        const tpu = pick % torus.workers;
        const reports = stepWith(torus, { tpu, phase: 'all-reduce', rounds: 1, ms });
        const causes = causesOf(reports, linksOf(torus));
        const slowest = slowestOf(reports, causes);
        expect(slowest.tpu).toBe(tpu);
        expect(slowest.ownMs - slowest.othersMs).toBeGreaterThan(0.9 * ms);
        const timing = timingOf(reports, slowest, causes, 1, undefined);
        expect(timing.slowestPhase).toBe('all-reduce');
        expect(timing.causedMs).toBeGreaterThan(0.5 * ms);
        expect(timing.slowestLink?.waitMs).toBeGreaterThan(0.5 * ms);
      }),
      { numRuns: 60 },
    );
  });

  test('is the one that computes longer, without any blame for the all-reduce', () => {
    fc.assert(
      fc.property(delays, ([torus, pick, ms]) => {
        const tpu = pick % torus.workers;
        const reports = stepWith(torus, { tpu, phase: 'compute', rounds: 0, ms });
        const causes = causesOf(reports, linksOf(torus));
        const slowest = slowestOf(reports, causes);
        expect(slowest.tpu).toBe(tpu);
        expect(Math.max(...causes.heldUpMs)).toBeLessThan(workMs);
        expect(timingOf(reports, slowest, causes, 1, undefined).slowestPhase).toBe('compute');
      }),
      { numRuns: 40 },
    );
  });
});

/** Returns a ring of `size` Cloud TPUs with one link from each to the next. */
function ring(size: number): SliceLinks {
  const entering = Array.from({ length: size }, (_, to) => {
    const from = (to + size - 1) % size;
    return [{ name: `${from} to ${to}`, from, direction: '+x' as const }];
  });
  return { entering };
}

describe('the caused wait', () => {
  test('is left for the one with which the wait began, wherever the others pass it on', () => {
    const setup = fc.tuple(fc.integer({ min: 2, max: 64 }), fc.nat(), fc.integer({ min: 1 }));
    fc.assert(
      fc.property(setup, ([size, pick, ms]) => {
        const slow = pick % size;
        const waits = Array.from({ length: size }, (_, tpu) => [tpu === slow ? 0 : ms]);
        const expected = waits.map((_, tpu) => {
          const isBefore = tpu === (slow + size - 1) % size;
          return (tpu === slow ? ms : 0) - (isBefore ? ms : 0);
        });
        expect(causedMs(waits, ring(size))).toEqual(expected);
      }),
    );
  });

  test('adds up to 0, and reads what is no time as 0', () => {
    const wait = fc.oneof(fc.double({ max: 1e6 }), fc.integer({ min: 0, max: 100 }));
    const waits = fc.array(fc.array(wait, { maxLength: 10 }), { maxLength: 12 });
    fc.assert(
      fc.property(slices, waits, (torus, waitsMs) => {
        const caused = causedMs(waitsMs, linksOf(torus));
        expect(caused.length).toBe(torus.workers);
        const total = caused.reduce((sum, ms) => sum + ms, 0);
        expect(Math.abs(total)).toBeLessThan(1e-3);
      }),
    );
  });
});

test('of the links that leave a Cloud TPU, the one with the longest wait is named', () => {
  const links = linksOf(flatTorus(2, 2));
  const report = { program: 0, step: 0, digest: '', outfeed: [], phaseMs: [1, 1, 9, 1, 1] };
  const waits = [
    [0, 0, 0, 0],
    [1, 7, 0, 0],
    [0, 0, 8, 2],
    [0, 0, 0, 0],
  ];
  const reports = waits.map((linkWaitMs, tpu) => ({ ...report, tpu, linkWaitMs }));
  const { longest } = causesOf(reports, links);
  expect(longest).toEqual([{ link: 'chip(0,0)+y', waitMs: 8 }, undefined, undefined, undefined]);
  const slowest = { tpu: 0, ownMs: 9, othersMs: 4 };
  const { slowestLink } = timingOf(reports, slowest, causesOf(reports, links), 1, undefined);
  expect(slowestLink).toEqual({ link: 'chip(0,0)+y', waitMs: 8 });
});
