import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { StepCommitted } from '../../src/experiment/event.ts';
import type { Run } from '../../src/experiment/prepared.ts';
import { slowestOfRun } from '../../src/experiment/slowest-of-run.ts';
import { sum } from '../../src/experiment/statistics.ts';
import { stepCommitted } from '../../src/experiment/step-event.ts';
import { stepTold, timingOf } from '../../src/experiment/step-timing.ts';
import { slowestOf } from '../../src/experiment/straggler.ts';
import { phases } from '../../src/isa/executable.ts';
import type { StepReport } from '../../src/pod/messages.ts';
import { unknownCauses } from './unknown-causes.ts';

/** Returns the report of a Cloud TPU with the given times, in ms, in the order of `phases`. */
function report(tpu: number, phaseMs: readonly number[]): StepReport {
  const scalar = new Uint8Array(Float32Array.of(1).buffer);
  return {
    tpu,
    program: 0,
    step: 0,
    digest: '',
    outfeed: [scalar, scalar, scalar],
    phaseMs,
    linkWaitMs: [],
  };
}

/** Returns the timing of step `step`. `before` is the step committed before it, if there is one. */
function timing(reports: readonly StepReport[], step = 1, before?: StepCommitted) {
  return timingOf(reports, slowestOf(reports, unknownCauses), unknownCauses, step, before);
}

/** Returns a run on a ring of the given number of Cloud TPUs. */
function runOn(columns: number): Run {
  const config = { globalBatch: 8, topology: { columns, rows: 1 } };
  return { config, steps: 9, trainSamples: 80 } as unknown as Run;
}

/** Returns the committed step `step` with the given reports. */
function committed(
  reports: readonly StepReport[],
  wallMs: number,
  history: readonly StepCommitted[] = [],
): StepCommitted {
  const step = history.length + 1;
  const commit = { program: 0, step: step - 1, digest: '', reports, wallMs };
  return stepCommitted(runOn(reports.length), commit, step, history);
}

/** Arbitrary reports of 1 to 8 Cloud TPUs, whose phases take up to 100 ms each. */
const someReports: fc.Arbitrary<readonly StepReport[]> = fc
  .array(
    fc.array(fc.double({ min: 0, max: 100, noNaN: true }), {
      minLength: phases.length,
      maxLength: phases.length,
    }),
    { minLength: 1, maxLength: 8 },
  )
  .map((all) => all.map((phaseMs, tpu) => report(tpu, phaseMs)));

describe('the phases of a step', () => {
  test('add up to its wall time', () => {
    fc.assert(
      fc.property(someReports, fc.double({ min: 0, max: 50, noNaN: true }), (reports, restMs) => {
        const wallMs = Math.max(...reports.map(({ phaseMs }) => sum(phaseMs))) + restMs;
        const { phaseMs } = committed(reports, wallMs);
        expect(sum(Object.values(phaseMs))).toBeCloseTo(wallMs, 6);
        expect(Math.min(...Object.values(phaseMs))).toBeGreaterThanOrEqual(0);
      }),
    );
  });

  test('have no negative time if the clock of a worker has jumped', () => {
    expect(committed([report(0, [0, 3_600_000, 0, 0, 0])], 10).phaseMs.commit).toBe(0);
  });
});

describe('the wait of the others', () => {
  test('is caused by the slowest Cloud TPU as far as its own work took longer than theirs', () => {
    const reports = [
      ...[report(0, [1, 20, 85, 0, 0]), report(1, [1, 90, 15, 0, 0])],
      ...[report(2, [1, 20, 85, 0, 0]), report(3, [1, 40, 80, 0, 0])],
    ];
    // Cloud TPU 1 is the slowest: its own work takes 91 ms. Cloud TPUs 0 and 2 work for 21 ms and
    // wait for 70 ms. Cloud TPU 1 caused all of this wait, since 91 - 21 = 70. Cloud TPU 3 works
    // for 41 ms and waits for 65 ms. Cloud TPU 1 caused only 91 - 41 = 50 ms of this wait.
    expect(timing(reports)).toEqual({
      ...{ slowestPhase: 'compute', slowestSince: 1 },
      ...{ waitMs: (70 + 70 + 65) / 3, causedMs: (70 + 70 + 50) / 3 },
    });
  });

  test('is at least the part that the slowest caused, and is 0 for a slice of one', () => {
    fc.assert(
      fc.property(someReports, (reports) => {
        const { waitMs, causedMs } = timing(reports);
        expect(causedMs).toBeGreaterThanOrEqual(0);
        expect(waitMs).toBeGreaterThanOrEqual(causedMs - 1e-9);
        if (reports.length === 1) expect(waitMs).toBe(0);
      }),
    );
  });

  test('grows by the time by which one of equal Cloud TPUs becomes slower', () => {
    const time = fc.integer({ min: 0, max: 1000 });
    const setup = fc.tuple(fc.integer({ min: 2, max: 8 }), time, time, fc.nat(7));
    fc.assert(
      fc.property(setup, ([tpus, ownMs, lateMs, pick]) => {
        const late = pick % tpus;
        const reports = Array.from({ length: tpus }, (_, tpu) =>
          report(tpu, [
            0,
            0,
            tpu === late ? 5 : 5 + lateMs,
            tpu === late ? ownMs + lateMs : ownMs,
            0,
          ]),
        );
        expect(timing(reports)).toMatchObject({ waitMs: lateMs, causedMs: lateMs });
        if (lateMs > 0) expect(slowestOf(reports, unknownCauses).tpu).toBe(late);
        if (ownMs + lateMs > 0) expect(timing(reports).slowestPhase).toBe('update');
      }),
    );
  });
});

test('a step says since when the same Cloud TPU has been the slowest', () => {
  const slow = (late: number) =>
    [0, 1, 2].map((tpu) => report(tpu, [0, tpu === late ? 9 : 1, 0, 0, 0]));
  const history: StepCommitted[] = [];
  for (const late of [1, 1, 1, 2, 1]) history.push(committed(slow(late), 10, history));
  expect(history.map(({ timing: it }) => it?.slowestSince)).toEqual([1, 1, 1, 4, 5]);
  expect(slowestOfRun(history)).toEqual({
    ...{ tpu: 1, steps: 4, ofSteps: 5, ownMs: 9, othersMs: 1, causedMs: 0 },
  });
});

test('a run names the link that was the slowest in most steps, with its mean wait there', () => {
  const slow = (link: string, waitMs: number): StepCommitted => {
    const step = committed([report(0, [0, 9, 0, 0, 0]), report(1, [0, 1, 0, 0, 0])], 10);
    return { ...step, timing: { ...step.timing!, slowestLink: { link, waitMs } } };
  };
  const history = [slow('a', 100), slow('b', 3), slow('b', 5)];
  expect(slowestOfRun(history)?.slowestLink).toEqual({ link: 'b', waitMs: 4 });
});

test('a run of one Cloud TPU, and a run without times, has no slowest Cloud TPU', () => {
  expect(slowestOfRun([committed([report(0, [1, 2, 3, 4, 5])], 20)])).toBeUndefined();
  const { timing: _, ...old } = committed(
    [report(0, [1, 2, 3, 4, 5]), report(1, [1, 2, 3, 4, 5])],
    20,
  );
  expect(slowestOfRun([old])).toBeUndefined();
});

test('the event of a step has all times in µs, and the longest of each phase with its Cloud TPU', () => {
  const reports = [
    { ...report(0, [1.00049, 5, 3, 4, 5]), linkWaitMs: [0.00051, 2] },
    report(1, [1, 2, 30, 4.00051, 1]),
  ];
  const step = committed(reports, 50);
  const told = stepTold(step, reports);
  expect(told).toMatchObject(step);
  expect(told.tpuPhaseMs).toEqual([
    [1, 5, 3, 4, 5],
    [1, 2, 30, 4.001, 1],
  ]);
  expect(told.longest).toEqual({
    infeed: { tpu: 0, ms: 1 },
    compute: { tpu: 0, ms: 5 },
    'all-reduce': { tpu: 1, ms: 30 },
    update: { tpu: 1, ms: 4.001 },
    outfeed: { tpu: 0, ms: 5 },
  });
  expect(told.tpuLinkWaitMs).toEqual([[0.001, 2], []]);
  expect(step).not.toHaveProperty('tpuPhaseMs');
  expect(step).not.toHaveProperty('tpuLinkWaitMs');
  expect(step).not.toHaveProperty('longest');
});
