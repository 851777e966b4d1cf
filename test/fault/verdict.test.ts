import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { FaultPlan } from '../../src/fault/plan.ts';
import { scheduleOf } from '../../src/fault/schedule.ts';
import {
  type CommitSeen,
  judge,
  type Observation,
  outcomesOf,
  type Reference,
} from '../../src/fault/verdict.ts';
import type { Note } from '../../src/pod/master/action.ts';

const grid = { columns: 4, rows: 2 };
const plan: FaultPlan = {
  run: {},
  faults: [{ fault: 'kill', tpu: 3, at: { step: 2 } }],
  expect: {
    weights: 'bit-identical',
    samples: 'exactly-once',
    steps: 'committed-once',
    recovery: { steps: '<=1', detection: '<2s', time: '<3s' },
    culprit: 'named',
    sometimes: ['peer-recovery'],
    goodput: '>=0.5',
  },
};
const evaluation: CommitSeen = { step: 1, digest: 'e', loss: 0.25, ms: 3100, wallMs: 100 };
const reference: Reference = {
  commits: [1, 2, 3].map((step) => ({ step, digest: `d${step}`, loss: 1 / step })),
  evaluation: [evaluation],
};
const right: Observation = {
  outcome: 'done',
  message: '',
  commits: reference.commits.map((it) => ({ ...it, ms: 1000 * it.step, wallMs: 1000 })),
  injections: [{ index: 0, ms: 1100 }],
  notes: [
    { ms: 1200, note: note('lost', 3) },
    { ms: 1800, note: note('restored', 3) },
  ],
  stragglers: [],
  beginMs: 0,
  endMs: 3000,
};

function note(event: Note['event'], tpu: number | null, cause = ''): Note {
  return { event, tpu, cause, generation: 1, program: 0, step: 1, elapsedMs: 0 };
}

function broken(seen: Partial<Observation>, of: FaultPlan = plan): readonly string[] {
  const verdicts = judge(of, grid, { ...right, ...seen }, reference);
  return verdicts.filter(({ holds }) => !holds).map(({ expectation }) => expectation);
}

describe('the verdict', () => {
  test('has a line for each expectation, and all hold for a right run', () => {
    const verdicts = judge(plan, grid, right, reference);
    expect(verdicts.map(({ expectation }) => expectation)).toEqual([
      'every planned fault is injected',
      'outcome: done',
      'weights: bit-identical',
      'samples: exactly-once',
      'steps: committed-once',
      'recovery.steps: <=1',
      'recovery.detection: <2s',
      'recovery.time: <3s',
      'culprit: named',
      'sometimes: peer-recovery',
      'goodput: >=0.5',
    ]);
    expect(verdicts.every(({ holds }) => holds)).toBe(true);
  });

  const { commits } = right;
  const unreached = [
    'every planned fault is injected',
    'recovery.detection: <2s',
    'recovery.time: <3s',
  ];
  const wrong: readonly (readonly [string, Partial<Observation>, readonly string[]])[] = [
    ['a fault that was never reached', { injections: [] }, unreached],
    ['a failed run', { outcome: 'failed', message: 'why' }, ['outcome: done']],
    [
      'other weights at the end',
      { commits: commits.map((it) => (it.step === 3 ? { ...it, digest: 'x' } : it)) },
      ['weights: bit-identical'],
    ],
    [
      'other weights after a step, and the right ones at the end',
      { commits: commits.map((it) => (it.step === 2 ? { ...it, digest: 'x' } : it)) },
      ['weights: bit-identical'],
    ],
    [
      'a step that was committed with weights that differ',
      { disagreements: [2] },
      ['weights: bit-identical'],
    ],
    [
      'other weights in the evaluation',
      { evaluation: [{ ...evaluation, digest: 'x' }] },
      ['weights: bit-identical'],
    ],
    ['a batch of the evaluation that is missing', { evaluation: [] }, ['samples: exactly-once']],
    [
      'another loss in the evaluation',
      { evaluation: [{ ...evaluation, loss: 7 }] },
      ['samples: exactly-once'],
    ],
    [
      'other examples in a step',
      { commits: commits.map((it) => (it.step === 2 ? { ...it, loss: 7 } : it)) },
      ['samples: exactly-once'],
    ],
    [
      'a step that is committed twice',
      { commits: [commits[0]!, commits[0]!, commits[2]!] },
      ['samples: exactly-once', 'steps: committed-once'],
    ],
    [
      'two committed steps that ran again',
      { notes: [...right.notes, { ms: 2500, note: note('rolled-back', null, 'after 0 steps') }] },
      ['recovery.steps: <=1'],
    ],
    [
      'a late detection',
      { notes: right.notes.map((it) => ({ ...it, ms: it.ms + 1950 })) },
      ['recovery.detection: <2s', 'recovery.time: <3s'],
    ],
    [
      'another Cloud TPU that is blamed',
      { notes: [{ ms: 1200, note: note('lost', 2) }, right.notes[1]!] },
      ['culprit: named'],
    ],
    [
      'a report that names nobody',
      { notes: [{ ms: 1200, note: note('suspected', null) }, right.notes[1]!] },
      ['culprit: named'],
    ],
    ['no restored Cloud TPU', { notes: [right.notes[0]!] }, ['sometimes: peer-recovery']],
    ['a long pause', { endMs: 9000 }, ['goodput: >=0.5']],
  ];

  test.each(wrong)('finds %s', (_, seen, expected) => {
    expect(broken(seen)).toEqual(expected);
  });

  test.each(['>0s', '<0s', '<9s'])(
    'finds no times of faults to hold against %s without a fault',
    (bound) => {
      const times = { recovery: { detection: bound, time: bound } };
      const none = { ...plan, faults: [], expect: times };
      const verdicts = judge(none, grid, { ...right, injections: [], notes: [] }, reference);
      expect(verdicts.slice(2)).toEqual([
        ...['detection', 'time'].map((name) => ({
          ...{
            expectation: `recovery.${name}: ${bound}`,
            holds: false,
            found: 'no fault to measure',
          },
        })),
      ]);
    },
  );

  test('measures no recovery from a straggler, because nothing is mended', () => {
    const slow = { ...plan, expect: { recovery: { detection: '<2s', time: '<1ms' } } };
    const faults = [{ fault: 'slow', tpu: 3, factor: 2, at: { step: 2 } }] as const;
    const seen = { ...right, notes: [], stragglers: [{ ms: 1200, tpu: 3 }] };
    const found = judge({ ...slow, faults }, grid, seen, reference).slice(2);
    expect(found.map((it) => [it.holds, it.found])).toEqual([
      [true, '100 ms'],
      [true, 'no fault from which a step must recover'],
    ]);
  });

  test('says of what the goodput is a share', () => {
    const found = judge(plan, grid, { ...right, endMs: 4000 }, reference).at(-1);
    expect(found).toMatchObject({
      expectation: 'goodput: >=0.5',
      found: '75.0 % of the training time',
    });
  });

  test('takes a fault in the evaluation as recovered if the run is done', () => {
    const late: Partial<Observation> = {
      injections: [{ index: 0, ms: 3050 }],
      notes: [
        { ms: 3060, note: note('lost', 3) },
        { ms: 3070, note: note('restored', 3) },
      ],
    };
    expect(broken(late)).toEqual([]);
    expect(broken({ ...late, outcome: 'failed' })).toContain('recovery.time: <3s');
  });

  test('does not take the report of one fault for that of another', () => {
    const two: FaultPlan = {
      ...plan,
      faults: [3, 5].map((tpu) => ({ fault: 'kill', tpu, at: { step: 2 } })),
      expect: { culprit: 'named' },
    };
    const injections = [0, 1].map((index) => ({ index, ms: 1100 + index }));
    const told = (...tpus: readonly number[]): Partial<Observation> => ({
      injections,
      notes: tpus.map((tpu, i) => ({ ms: 1200 + i, note: note('lost', tpu) })),
    });
    expect(broken(told(5, 3), two)).toEqual([]);
    expect(broken(told(3, 5), two)).toEqual([]);
    expect(broken(told(3, 4), two)).toEqual(['culprit: named']);
    expect(broken(told(4, 3, 5), two)).toEqual(['culprit: named']);
  });

  test('takes the next master for the report of a fault of the master or of its disk', () => {
    for (const fault of ['master-kill', 'torn-write'] as const) {
      const lost: FaultPlan = {
        ...plan,
        faults: [{ fault, at: { step: 2 } }],
        expect: { recovery: { detection: '<500ms' }, culprit: 'named' },
      };
      const seen = { notes: [], takeovers: [{ ms: 900 }, { ms: 1500 }] };
      expect(broken(seen, lost)).toEqual([]);
      expect(broken({ ...seen, takeovers: [{ ms: 900 }, { ms: 1700 }] }, lost)).toEqual([
        'recovery.detection: <500ms',
      ]);
      expect(broken({ ...seen, takeovers: [] }, lost)).toEqual(['recovery.detection: <500ms']);
    }
  });

  test('does not take losses of a master that is cut off for the report of another fault', () => {
    const cutOff: FaultPlan['faults'][number] = {
      ...{ fault: 'master-cut-off', at: { step: 2 }, for: { ms: 5000 } },
    };
    const two: FaultPlan = {
      ...plan,
      faults: [...plan.faults, cutOff],
      expect: { culprit: 'named' },
    };
    const notes = [0, 3].map((tpu, i) => ({ ms: 1200 + i, note: note('lost', tpu) }));
    const injections = [...right.injections, { index: 1, ms: 1150 }];
    expect(broken({ notes, injections }, two)).toEqual([]);
    expect(broken({ notes, injections: [injections[0]!] }, two)).toContain('culprit: named');
  });

  const others: readonly (readonly [string, FaultPlan['faults'][number], number])[] = [
    [
      'of a partition',
      { fault: 'partition', groups: [[0, 1, 2, 3, 4, 6, 7], [5]], at: { step: 2 } },
      5,
    ],
    ['at the sender of a broken link', { fault: 'lose', link: [5, 6], at: { step: 2 } }, 5],
    [
      'at the receiver of a broken link',
      { fault: 'lose', link: 'chip(2,2)+x', at: { step: 2 } },
      5,
    ],
    ['in a lost row', { fault: 'lose-row', row: 1, at: { step: 2 } }, 5],
  ];

  test.each(others)('does not take a loss %s for the report of another fault', (_, first, lost) => {
    const two: FaultPlan = {
      ...plan,
      faults: [first, ...plan.faults],
      expect: { culprit: 'named' },
    };
    const notes = [lost, 3].map((tpu, i) => ({ ms: 1200 + i, note: note('lost', tpu) }));
    const injections = [0, 1].map((index) => ({ index, ms: 1100 + index }));
    const seen: Observation = { ...right, notes, injections };
    expect(broken(seen, two)).toEqual([]);
    expect(outcomesOf(two, grid, seen).map(({ blamed }) => blamed)).toEqual([lost, 3]);
    const later = injections.map(({ index }) => ({ index, ms: index === 0 ? 1300 : 1100 }));
    expect(broken({ notes, injections: later }, two)).toContain('culprit: named');
  });

  test('finds a straggler that is not the slow Cloud TPU', () => {
    const slow: FaultPlan = {
      ...plan,
      faults: [{ fault: 'slow', tpu: 3, factor: 2, at: { step: 2 } }],
      expect: { culprit: 'named' },
    };
    expect(broken({ stragglers: [{ ms: 1500, tpu: 3 }] }, slow)).toEqual([]);
    expect(broken({ stragglers: [{ ms: 1500, tpu: 2 }] }, slow)).toEqual(['culprit: named']);
    expect(broken({ stragglers: [] }, slow)).toEqual(['culprit: named']);
  });

  test('without a reference, weights cannot be shown to be right', () => {
    const verdicts = judge(plan, grid, right, undefined);
    const names = verdicts.filter(({ holds }) => !holds).map(({ expectation }) => expectation);
    expect(names).toEqual(['weights: bit-identical', 'samples: exactly-once']);
  });

  test('a plan may expect a run that fails', () => {
    const failing: FaultPlan = { ...plan, expect: { outcome: 'failed' } };
    expect(broken({ outcome: 'failed', message: 'lost' }, failing)).toEqual([]);
    expect(broken({}, failing)).toEqual(['outcome: failed']);
  });
});

describe('the schedule', () => {
  test('turns a lost row or column into kills of its Cloud TPUs', () => {
    const faults: FaultPlan['faults'] = [
      { fault: 'lose-row', row: 1, at: { step: 4 } },
      { fault: 'lose-column', column: 2, at: { step: 5 } },
    ];
    const schedule = scheduleOf({ run: {}, faults, expect: {} }, grid, 9);
    expect(schedule.map(({ fault, planned }) => [planned, 'tpu' in fault && fault.tpu])).toEqual([
      ...[4, 5, 6, 7].map((tpu) => [0, tpu]),
      ...[2, 6].map((tpu) => [1, tpu]),
    ]);
  });

  test('draws the same faults from the same seed, about one every mtbfSteps', () => {
    fc.assert(
      fc.property(fc.nat(), fc.integer({ min: 2, max: 50 }), (seed, mtbfSteps) => {
        const chance = { seed, mtbfSteps, weights: { kill: 1, slow: 2 } };
        const plan = { run: {}, faults: [], chance, expect: {} };
        const steps = 200 * mtbfSteps;
        const schedule = scheduleOf(plan, grid, steps);
        expect(scheduleOf(plan, grid, steps)).toEqual(schedule);
        expect(schedule.length).toBeGreaterThan(120);
        expect(schedule.length).toBeLessThan(290);
        for (const { fault } of schedule) {
          expect(['kill', 'slow']).toContain(fault.fault);
          expect('tpu' in fault && fault.tpu).toBeLessThan(8);
        }
      }),
      { numRuns: 30 },
    );
  });
});
