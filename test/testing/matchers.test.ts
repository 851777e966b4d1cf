import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Fault, FaultPlan } from '../../src/fault/plan.ts';
import type { CommitSeen, Observation } from '../../src/fault/verdict.ts';
import type { Note } from '../../src/pod/master/action.ts';
import { type Matched, matchers } from '../../src/testing/matchers.ts';
import { PodRun } from '../../src/testing/pod-run.ts';

const kill: Fault = { fault: 'kill', tpu: 3, at: { step: 2 } };
const commits: readonly CommitSeen[] = [1, 2, 3].map((step) => ({
  ...{ step, digest: `d${step}`, loss: 1 / step },
  ...{ ms: 1000 * step, wallMs: 1000 },
}));
const faultFree: Observation = {
  ...{ outcome: 'done', message: '', commits, beginMs: 0, endMs: 3000 },
  ...{ injections: [], notes: [], stragglers: [] },
};
const seen: Observation = {
  ...faultFree,
  injections: [{ index: 0, ms: 1100 }],
  notes: [{ ms: 1200, note: note('lost', 3) }],
};

function note(event: Note['event'], tpu: number | null, cause = ''): Note {
  return { event, tpu, cause, generation: 1, program: 0, step: 1, elapsedMs: 0 };
}

/**
 * Returns a run that has recovered from the fault `kill` as expected. `changes` replaces fields of
 * the run's observation. `of` replaces fields of the run's plan.
 */
function run(changes: Partial<Observation> = {}, of: Partial<FaultPlan> = {}): PodRun {
  const plan: FaultPlan = { run: {}, faults: [kill], expect: {}, ...of };
  const tested = { ground: 'threads', plan, topology: { columns: 4, rows: 2 } } as const;
  return new PodRun(tested, { ...seen, ...changes }, faultFree);
}

/** Returns the message of a matcher that does not pass; fails if the matcher passes. */
function complaint({ pass, message }: Matched): string {
  expect(pass).toBe(false);
  return message();
}

/** Returns the committed steps with other values in one step. */
function changed(step: number, change: Partial<CommitSeen>): readonly CommitSeen[] {
  return commits.map((it) => (it.step === step ? { ...it, ...change } : it));
}

describe('toMatchFaultFree', () => {
  test('passes only if each step has the weights and the loss of the run without faults', () => {
    expect(matchers.toMatchFaultFree(run()).pass).toBe(true);
    const change = fc.record(
      {
        digest: fc.constantFrom('d1', 'd2', 'd3', 'x'),
        loss: fc.constantFrom(1, 1 / 2, Number.NaN),
      },
      { requiredKeys: [] },
    );
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 3 }), change, (step, values) => {
        const other = changed(step, values);
        const isSame = commits.every((it, i) => {
          return it.digest === other[i]?.digest && it.loss === other[i]?.loss;
        });
        expect(matchers.toMatchFaultFree(run({ commits: other })).pass).toBe(isSame);
      }),
    );
  });

  test('says what was expected and what was found', () => {
    const other = changed(3, { digest: 'x', loss: 7 });
    expect(complaint(matchers.toMatchFaultFree(run({ commits: other })))).toBe(
      [
        'expected the run to match the run without faults',
        'expected weights: bit-identical; found x after step 3, without faults d3',
        'expected samples: exactly-once; found the loss of step 3 is 7',
      ].join('\n'),
    );
    expect(matchers.toMatchFaultFree(run()).message()).toBe(
      'expected the run not to match the run without faults',
    );
  });

  test('fails for a run that ended early, with its error', () => {
    const failed = run({ outcome: 'failed', message: 'lost', commits: commits.slice(0, 1) });
    expect(complaint(matchers.toMatchFaultFree(failed))).toContain(
      'expected outcome: done; found failed: lost',
    );
  });

  test('refuses a run whose run without faults was not trained', () => {
    const tested = { ground: 'sim', topology: { columns: 1, rows: 1 } } as const;
    const alone = new PodRun(
      { ...tested, plan: { run: {}, faults: [], expect: {} } },
      seen,
      undefined,
    );
    expect(() => matchers.toMatchFaultFree(alone)).toThrow('expected a run with faultFree: true');
  });
});

describe('toHaveRecovered', () => {
  test('passes exactly if a step was committed within the time after the fault', () => {
    // The fault takes effect at 1100 ms. The next step is committed at 2000 ms, so the recovery
    // takes 900 ms.
    fc.assert(
      fc.property(fc.double({ min: 0, max: 5000, noNaN: true }), (withinMs) => {
        expect(matchers.toHaveRecovered(run(), { withinMs }).pass).toBe(withinMs >= 899.9995);
      }),
    );
    expect(complaint(matchers.toHaveRecovered(run(), { withinMs: 500 }))).toBe(
      'expected the run to have recovered from its faults\n' +
        'expected recovery.time: <=500ms; found 900 ms',
    );
  });

  test('counts the committed steps that ran again', () => {
    const rolledBack = { ms: 2500, note: note('rolled-back', null, 'after 0 steps') };
    const again = run({ notes: [...seen.notes, rolledBack] });
    expect(matchers.toHaveRecovered(again, { steps: 2 }).pass).toBe(true);
    expect(complaint(matchers.toHaveRecovered(again, { steps: 1 }))).toContain(
      'expected recovery.steps: <=1; found 2',
    );
  });

  test('fails if no step was committed after the fault, without bounds too', () => {
    const early = { commits: commits.slice(0, 1), outcome: 'failed', message: 'gone' } as const;
    expect(complaint(matchers.toHaveRecovered(run(early)))).toContain(
      'expected a committed step after each fault; found never',
    );
  });

  test('fails for a run without faults, and for a fault that was never injected', () => {
    expect(complaint(matchers.toHaveRecovered(run({}, { faults: [] })))).toContain(
      'found a run without faults',
    );
    expect(complaint(matchers.toHaveRecovered(run({ injections: [] })))).toContain(
      'found never reached: kill (faults.0)',
    );
  });

  test.each([-1, Number.NaN, Number.POSITIVE_INFINITY])('refuses the bound %s', (withinMs) => {
    expect(() => matchers.toHaveRecovered(run(), { withinMs })).toThrow(
      `toHaveRecovered: withinMs: expected a number from 0 to 86400000, found ${withinMs}`,
    );
  });
});

describe('toBlame', () => {
  test('passes only for the Cloud TPU that the first report names', () => {
    const notes = [
      { ms: 1200, note: note('suspected', 5) },
      { ms: 1300, note: note('lost', 3) },
    ];
    const wrong = run({ notes });
    for (let tpu = 0; tpu < 8; tpu++) {
      expect(matchers.toBlame(run(), tpu).pass).toBe(tpu === 3);
      expect(matchers.toBlame(wrong, tpu).pass).toBe(tpu === 5);
    }
    expect(complaint(matchers.toBlame(wrong, 3))).toBe(
      'expected the run to blame Cloud TPU 3\n' +
        'kill of Cloud TPU 3 at {step:2}: found a report that names Cloud TPU 5',
    );
    expect(matchers.toBlame(run(), 3).message()).toMatch(
      /^expected the run not to blame Cloud TPU 3/,
    );
  });

  test('says that there was no report, no name or no fault', () => {
    expect(complaint(matchers.toBlame(run({ notes: [] }), 3))).toContain('found no report');
    const nameless = run({ notes: [{ ms: 1200, note: note('suspected', null) }] });
    expect(complaint(matchers.toBlame(nameless, 3))).toContain('names no Cloud TPU');
    expect(complaint(matchers.toBlame(run({ injections: [] }), 3))).toContain('never injected');
    expect(complaint(matchers.toBlame(run({}, { faults: [] }), 3))).toContain('without faults');
  });
});

describe('toHoldExpectations', () => {
  test('lists the expectations of the plan that do not hold', () => {
    const expectations: FaultPlan['expect'] = {
      recovery: { time: '<500ms', detection: '<2s' },
      sometimes: ['quarantine'],
    };
    expect(matchers.toHoldExpectations(run()).pass).toBe(true);
    expect(complaint(matchers.toHoldExpectations(run({}, { expect: expectations })))).toBe(
      [
        'expected the run to hold its expectations',
        'expected recovery.time: <500ms; found 900 ms',
        'expected sometimes: quarantine; found taken 0 times',
      ].join('\n'),
    );
  });
});

test.each(Object.entries(matchers))('%s refuses what is no run', (name, match) => {
  const matcher: (run: unknown, tpu: number & object) => Matched = match;
  const call = (received: unknown) => () => matcher(received, 3 as number & object);
  expect(call(Promise.resolve(run()))).toThrow(
    `${name}: expected the result of pod(…).train(), found a promise; await it first`,
  );
  expect(call({})).toThrow('found an object of Object');
  expect(call(undefined)).toThrow('found undefined');
});
