import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Slowest, StepCommitted } from '../../src/experiment/event.ts';
import { StragglerWatch, slowestOf } from '../../src/experiment/straggler.ts';
import { phases } from '../../src/isa/executable.ts';
import type { StepReport } from '../../src/pod/messages.ts';
import { unknownCauses } from './unknown-causes.ts';

/** Returns a Cloud TPU's report of a step: `ownMs` of computation, `waitMs` in the all-reduce. */
function report(tpu: number, ownMs: number, waitMs: number): StepReport {
  const phaseMs = phases.map((it) => (it === 'all-reduce' ? waitMs : it === 'compute' ? ownMs : 0));
  return { tpu, program: 0, step: 0, digest: '', outfeed: [], phaseMs, linkWaitMs: [] };
}

function step(number: number, slowest: Slowest): StepCommitted {
  return { kind: 'step', step: number, slowest } as StepCommitted;
}

describe('the slowest Cloud TPU of a step', () => {
  test('is the one with the most work of its own, though the others take as long with the wait', () => {
    const reports = [report(0, 20, 80), report(1, 100, 0), report(2, 21, 79), report(3, 22, 78)];
    expect(slowestOf(reports, unknownCauses)).toEqual({ tpu: 1, ownMs: 100, othersMs: 21 });
  });

  test('has no others in a slice of one', () => {
    expect(slowestOf([report(0, 20, 0)], unknownCauses)).toEqual({
      tpu: 0,
      ownMs: 20,
      othersMs: 0,
    });
  });

  test('is never faster than the median of the others', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(1000), fc.nat(1000)), { minLength: 1 }), (times) => {
        const reports = times.map(([own, wait], tpu) => report(tpu, own, wait));
        const found = slowestOf(reports, unknownCauses);
        expect(found.ownMs).toBe(Math.max(...times.map(([own]) => own)));
        expect(found.ownMs).toBeGreaterThanOrEqual(found.othersMs);
      }),
    );
  });
});

describe('a straggler', () => {
  const slow = { tpu: 2, ownMs: 30, othersMs: 20 };

  test('is named once, in its third slow step in a row', () => {
    const watch = new StragglerWatch();
    const told = [1, 2, 3, 4, 5].map((it) => watch.take(step(it, slow)));
    expect(told).toEqual([
      ...[undefined, undefined],
      { kind: 'straggler', step: 3, inARow: 3, ...slow },
      ...[undefined, undefined],
    ]);
  });

  test.each([
    ['another Cloud TPU', { ...slow, tpu: 1 }],
    ['a step in which none is slow', { ...slow, ownMs: 29 }],
  ])('is not named if %s breaks the row', (_, other) => {
    const watch = new StragglerWatch();
    const row = [slow, slow, other, slow, slow];
    expect(row.map((it, i) => watch.take(step(i + 1, it)))).toEqual(row.map(() => undefined));
    expect(watch.take(step(6, slow))).toMatchObject({ tpu: 2, step: 6 });
  });
});
