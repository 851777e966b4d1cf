import { describe, expect, test } from 'vitest';
import { Tally, tallyLines } from '../../src/cli/search-tally.ts';
import type { Fault, FaultPlan } from '../../src/fault/plan.ts';
import type { Observation } from '../../src/fault/verdict.ts';
import type { Note } from '../../src/pod/master/action.ts';

const grid = { columns: 4, rows: 2 };
const kill: Fault = { fault: 'kill', tpu: 3, at: { step: 2 } };

/**
 * Returns what was observed in a run whose fault was injected at 100 ms. At `lostMs` the master
 * reported the loss of Cloud TPU `tpu`. If `lostMs` is undefined, it reported no loss.
 */
function seenWith(lostMs: number | undefined, tpu: number | null): Observation {
  const note = { event: 'lost', tpu, cause: '' } as unknown as Note;
  return {
    ...{ outcome: 'done', message: '', stragglers: [], beginMs: 0, endMs: 1000 },
    commits: [{ step: 2, digest: 'a', loss: 1, ms: 900, wallMs: 10 }],
    injections: [{ index: 0, ms: 100 }],
    notes: lostMs === undefined ? [] : [{ ms: lostMs, note }],
  };
}

function tallied(fault: Fault, ...runs: readonly Observation[]): Tally {
  const tally = new Tally();
  const plan: FaultPlan = { run: {}, faults: [fault], expect: {} };
  for (const seen of runs) tally.add(plan, grid, seen);
  return tally;
}

describe('the tally of a search', () => {
  test('counts right and wrong reports, and faults that nobody reports', () => {
    const tally = tallied(kill, seenWith(110, 3), seenWith(150, 5), seenWith(undefined, null));
    expect(tally.kinds).toEqual([
      {
        ...{ kind: 'kill', injected: 3, noticed: 2, right: 1 },
        detectionMs: { p50: 10, p99: 50 },
        recoveryMs: { p50: 800, p99: 800 },
      },
    ]);
    expect(tallyLines(tally.kinds, 1234)[0]).toBe(
      'times of the 3 of 1,234 plans with one fault that was injected; --faults 1 draws no others',
    );
    expect(tallyLines(tally.kinds, 3).at(-1)).toBe(
      'the first report names the right one: 1 of 2, 50.0 %',
    );
  });

  test('takes either end of a link as right', () => {
    const fault: Fault = { fault: 'lose', link: 'chip(3,0)+x', at: { step: 2 } };
    const tally = tallied(fault, seenWith(110, 1), seenWith(110, 2), seenWith(110, 3));
    expect(tally.kinds[0]).toMatchObject({ noticed: 3, right: 2 });
  });

  test('takes a loss of any Cloud TPU as right if the master was cut off', () => {
    const fault: Fault = { fault: 'master-cut-off', at: { step: 2 }, for: { ms: 500 } };
    const tally = tallied(fault, seenWith(110, 0), seenWith(110, 7), seenWith(110, null));
    expect(tally.kinds[0]).toMatchObject({ noticed: 3, right: 2 });
  });

  test('does not ask which Cloud TPU was named if the fault hit none', () => {
    const fault: Fault = { fault: 'disk-full', at: { step: 2 }, for: { ms: 50 } };
    const quiet = seenWith(undefined, null);
    const tally = tallied(fault, { ...quiet, takeovers: [{ ms: 150 }] }, quiet);
    expect(tally.kinds[0]).toMatchObject({ injected: 2, noticed: 1, right: null });
    expect(tallyLines(tally.kinds, 2).at(-1)).toBe('the first report names the right one: 0 of 0');
  });

  test('leaves out plans with several faults, and faults that were not injected', () => {
    const tally = new Tally();
    tally.add({ run: {}, faults: [kill, kill], expect: {} }, grid, seenWith(110, 3));
    const plan: FaultPlan = { run: {}, faults: [kill], expect: {} };
    tally.add(plan, grid, { ...seenWith(110, 3), injections: [] });
    expect(tally.kinds).toEqual([]);
    expect(tallyLines([], 2).at(-1)).toBe('the first report names the right one: 0 of 0');
  });
});
