import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { figuresOf } from '../../src/observe/run-figures.ts';
import { timelineOf } from '../../src/observe/timeline.ts';
import { fact } from '../run/facts.ts';
import { note, recorded, step } from './recorded.ts';

const ready = { kind: 'ready', elapsedMs: 100 } as const;

describe('the timeline of a run', () => {
  test('gives an incident in a batch of the evaluation no step of the training', () => {
    const of = { generation: 2, step: 2, elapsedMs: 0 };
    const lost = { event: 'lost', tpu: 3, cause: 'in batch 3 of the evaluation', ...of } as const;
    const run = recorded([
      [0, { kind: 'note', note: { ...lost, program: 0 } }],
      [1, { kind: 'note', note: { ...lost, program: 1 } }],
    ]);
    expect(timelineOf(run).incidents.map(({ step }) => step)).toEqual([3, null]);
  });

  test('shows an interrupted step as attempts, and the recovery from the report to the commit', () => {
    const run = recorded([
      [1000, ready],
      [1020, step(1, 15)],
      [1035, step(2, 15)],
      [1040, note('lost', 3)],
      [1042, note('suspected', 1)],
      [1060, note('replaced', 3)],
      [1070, note('restored', 3)],
      [1071, note('resumed')],
      [1080, step(3, 44)],
      [1095, step(4, 15)],
    ]);
    const timeline = timelineOf(run);
    expect(timeline.steps.map(({ from, to }) => [from, to])).toEqual([
      ...[
        [5, 20],
        [20, 35],
        [36, 80],
        [80, 95],
      ],
    ]);
    expect(timeline.steps.map(({ attempts }) => attempts.length)).toEqual([1, 1, 2, 1]);
    expect(timeline.steps[2]?.attempts).toEqual([
      { from: 36, to: 40 },
      { from: 71, to: 80 },
    ]);
    expect(timeline.recoveries).toMatchObject([{ fromMs: 40, resumedMs: 71, commitMs: 80 }]);
    expect(timeline.recoveries[0]?.reports.map(({ tpu }) => tpu)).toEqual([3, 1]);
    expect(timeline.absences).toEqual([
      { tpu: 3, fromMs: 40, foundMs: 60, backMs: 70, by: 'replaced' },
    ]);
    const figures = figuresOf(run, timeline);
    expect(figures).toMatchObject({ outcome: 'unknown', committed: 4, steps: 6, ranAgain: 1 });
    expect(figures.recovery).toBeUndefined();
    expect(figures.interruption).toEqual({ count: 1, never: 0, p50: 40, max: 40 });
    expect(figures.blamed.map(({ tpu, lost, suspected }) => [tpu, lost, suspected])).toEqual([
      ...[
        [1, 0, 1],
        [3, 1, 0],
      ],
    ]);
    expect(figures.goodput).toBeCloseTo((4 * 15) / 95, 9);
  });

  test('shows a second loss during the recovery, and a third after the step began again', () => {
    const { steps, recoveries } = timelineOf(
      recorded([
        [0, ready],
        [10, note('lost', 0)],
        [20, note('lost', 1)],
        [30, note('resumed')],
        [40, note('lost', 2)],
        [50, note('resumed')],
        [60, step(1, 55)],
      ]),
    );
    expect(steps[0]?.attempts).toEqual([
      { from: 5, to: 10 },
      { from: 30, to: 40 },
      { from: 50, to: 60 },
    ]);
    expect(recoveries).toMatchObject([{ fromMs: 10, resumedMs: 50, commitMs: 60 }]);
  });

  test('shows steps since a checkpoint as repeated, and so the steps that a second master repeats', () => {
    const run = recorded(
      [
        [0, ready],
        [10, step(1, 10)],
        [20, step(2, 10)],
        [30, step(3, 10)],
        [31, note('lost', 0)],
        [35, note('rolled-back', null, 'the parameters are those after 1 steps')],
        [60, step(4, 30)],
      ],
      [
        [70, ready],
        [90, step(4, 10)],
        [100, step(5, 10)],
      ],
    );
    const timeline = timelineOf(run);
    expect(timeline.repeats).toEqual([{ fromMs: 35, toMs: 60, firstStep: 2, lastStep: 3 }]);
    expect(timeline.steps.map(({ isRepeated }) => isRepeated)).toEqual([
      ...[false, false, false, false, true, false],
    ]);
    expect(timeline.incidents.map(({ kind }) => kind)).toEqual(['lost', 'rolled-back', 'master']);
    // `ranAgain` counts four repetitions. Steps 2 and 3 ran again after the return to the
    // checkpoint. Step 4 ran again after its interruption, and once more under the second master.
    expect(figuresOf(run, timeline)).toMatchObject({ committed: 5, ranAgain: 4 });
  });

  test('leaves out a long pause between masters, also from the goodput', () => {
    const day = 86_400_000;
    const first = [
      [0, ready],
      [10, step(1, 10)],
      [20, step(2, 10)],
    ] as const;
    const second = [
      [day, ready],
      [day + 10, step(3, 10)],
      [day + 20, step(4, 10)],
    ] as const;
    const run = recorded(first, second);
    const timeline = timelineOf(run);
    expect(timeline.periods).toEqual([
      { from: 0, to: 20 },
      { from: day, to: day + 20 },
    ]);
    expect(figuresOf(run, timeline)).toMatchObject({ goodput: 1, wallMs: 40, trainingMs: 40 });
    const soon = recorded(first, [
      [22, ready],
      [32, step(3, 10)],
    ]);
    expect(timelineOf(soon).periods).toEqual([{ from: 0, to: 32 }]);
  });

  test('lets no time pass while the clock is set back, and puts faults between the events', () => {
    const run = recorded([
      [5000, ready],
      [5010, step(1, 10)],
      [1000, step(2, 10)],
      [1010, step(3, 10)],
    ]);
    const judged = {
      ...{ v: 1 as const, ground: 'threads' as const, outcome: 'done' as const, message: '' },
      verdicts: [],
      faults: [{ index: 0, fault: { fault: 'kill' as const, tpu: 1, at: { step: 1 } } }].map(
        (it) => ({
          ...it,
          injectedMs: 5004,
          detectionMs: undefined,
          recoveryMs: undefined,
          blamed: null,
        }),
      ),
    };
    const timeline = timelineOf({ ...run, judged });
    expect(timeline.steps.map(({ to }) => to)).toEqual([10, 10, 20]);
    expect(timeline.incidents).toMatchObject([{ kind: 'fault', ms: 4, tpu: 1, step: 1 }]);
  });

  test('has times in order and finite, whatever a record says', () => {
    const time = fc.double({ noNaN: true, noDefaultInfinity: true });
    const masters = fc.array(fc.array(fc.tuple(time, fact), { maxLength: 12 }), { maxLength: 3 });
    fc.assert(
      fc.property(masters, (all) => {
        const run = recorded(...all);
        const { steps, recoveries, periods, shown, incidents } = timelineOf(run);
        let last = 0;
        for (const { from, to, attempts } of steps) {
          expect(last <= from && from <= to && Number.isFinite(to)).toBe(true);
          last = to;
          for (const it of attempts)
            expect(from <= it.from && it.from <= it.to && it.to <= to).toBe(true);
        }
        for (const { fromMs, commitMs = fromMs } of recoveries)
          expect(commitMs >= fromMs).toBe(true);
        for (const { from, to } of [...periods, ...shown])
          expect(from <= to && from >= 0).toBe(true);
        for (const { ms } of incidents) expect(Number.isFinite(ms)).toBe(true);
      }),
    );
  });
});
