import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type Case, planOf } from '../../src/fault/case.ts';
import { type InvariantName, violationsIn } from '../../src/fault/invariants.ts';
import type { Kept, Remains } from '../../src/fault/kept.ts';
import type { FaultPlan } from '../../src/fault/plan.ts';
import {
  type CommitSeen,
  judge,
  type Observation,
  type Reference,
} from '../../src/fault/verdict.ts';

const topology = { columns: 2, rows: 2 };
const kill: Case = {
  run: { topology, model: 'mlp', steps: 4, batches: 2, recovery: 'replace', seed: 0 },
  faults: [{ fault: 'kill', tpu: 1, at: { step: 2 } }],
  outcome: 'done',
};
const plan = planOf(kill, 'sim');
const commits = [1, 2, 3, 4].map((step) => commitAt(step, 1000 * step));
const evaluation = [1, 2].map((step) => commitAt(step, 4000 + 10 * step));
const reference: Reference = { commits, evaluation };
const right: Observation = {
  ...{ outcome: 'done', message: '', commits, evaluation, disagreements: [] },
  ...{ injections: [{ index: 0, ms: 1500 }], notes: [], stragglers: [], beginMs: 0, endMs: 4000 },
};

/** What the disk keeps of a run that has saved checkpoints after steps 2 and 4. */
const kept: Kept = {
  ...{ keep: 2, damages: [], losses: [], end: { log: commits, checkpoint: commits[3] } },
  saves: [2, 4].map((step) => ({ step, ms: 1000 * step + 100 })),
};

function keptAtEnd(end: Partial<Remains>): Pick<Observation, 'kept'> {
  return { kept: { ...kept, end: { ...kept.end, ...end } } };
}

/** The machine of the masters has lost power at 3.5 s. */
function keptAtLoss(loss: Partial<Remains>): Pick<Observation, 'kept'> {
  const remains = { ms: 3500, log: commits.slice(0, 3), checkpoint: commits[1], ...loss };
  return { kept: { ...kept, losses: [remains] } };
}

/** Returns the note that a run has gone back, at 3.5 s, to the checkpoint of step `step`. */
function wentBackTo(step: number): Pick<Observation, 'notes'> {
  const cause = `parameters are those after ${step}, 0 steps`;
  const note = { event: 'rolled-back', generation: 2, program: 0, step: 3, tpu: null } as const;
  return { notes: [{ ms: 3500, note: { ...note, cause, elapsedMs: 1 } }] };
}

function commitAt(step: number, ms: number): CommitSeen {
  return { step, digest: `digest ${step}`, loss: 1 / step, ms, wallMs: 10 };
}

function brokenBy(change: Partial<Observation>, of: FaultPlan = plan): readonly InvariantName[] {
  const violations = violationsIn(
    of,
    { kind: 'ended', seen: { ...right, ...change } },
    reference,
    'sim',
  );
  return violations.map(({ invariant }) => invariant);
}

/** Returns the commits `all`, with `change` applied to the commit at `index`. */
function changed(
  all: readonly CommitSeen[],
  index: number,
  change: Partial<CommitSeen>,
): readonly CommitSeen[] {
  return all.map((it, i) => (i === index ? { ...it, ...change } : it));
}

describe('the invariants', () => {
  test('hold for a run with the weights and losses of the run without faults', () => {
    expect(brokenBy({})).toEqual([]);
  });

  const late = commits.map((it) => (it.step > 1 ? { ...it, ms: it.ms + 200_000 } : it));
  const wrong: readonly (readonly [string, Partial<Observation>, readonly InvariantName[]])[] = [
    [
      'a step that is committed twice',
      { commits: [commits[0]!, ...commits] },
      ['order', 'outcome'],
    ],
    ['a step that is left out', { commits: commits.slice(1) }, ['order', 'outcome']],
    ['other weights', { commits: changed(commits, 1, { digest: 'x' }) }, ['weights']],
    ['another loss', { commits: changed(commits, 1, { loss: Number.NaN }) }, ['samples']],
    ['a commit without agreement', { disagreements: [2] }, ['agreement']],
    [
      'another loss in the evaluation',
      { evaluation: changed(evaluation, 1, { loss: 7 }) },
      ['evaluation'],
    ],
    [
      'other weights in the evaluation',
      { evaluation: changed(evaluation, 0, { digest: 'x' }) },
      ['evaluation'],
    ],
    ['an evaluation that is too short', { evaluation: [evaluation[0]!] }, ['outcome']],
    ['a run that fails', { outcome: 'failed', message: 'lost' }, ['outcome']],
    ['a run that ends early', { commits: commits.slice(0, 3) }, ['outcome']],
    ['a step that takes too long', { commits: late }, ['progress']],
    ['a commit that is not in the log', keptAtEnd({ log: commits.slice(0, 3) }), ['log']],
    ['a commit with another loss', keptAtEnd({ log: changed(commits, 2, { loss: 7 }) }), ['log']],
    ['a commit that a loss of power takes', keptAtLoss({ log: commits.slice(0, 2) }), ['log']],
    ['a run without a checkpoint', keptAtEnd({ checkpoint: undefined }), ['checkpoints']],
    [
      'a missing checkpoint of the last step',
      { kept: { ...kept, saves: [], end: { ...kept.end, checkpoint: commits[1] } } },
      ['checkpoints'],
    ],
    [
      'a checkpoint that a loss of power takes',
      keptAtLoss({ checkpoint: undefined }),
      ['checkpoints'],
    ],
    [
      'a checkpoint with other weights',
      keptAtEnd({ checkpoint: { ...commits[3]!, digest: 'x' } }),
      ['checkpoints'],
    ],
    ['a return further than necessary', { kept, ...wentBackTo(0) }, ['checkpoints']],
    [
      'a return past an older checkpoint, after the newest was damaged',
      {
        ...wentBackTo(0),
        kept: {
          ...kept,
          saves: [1, 2, 4].map((step) => ({ step, ms: 1000 * step + 100 })),
          damages: [{ ms: 3000, step: 2 }],
        },
      },
      ['checkpoints'],
    ],
  ];
  const damages = [{ ms: 3000, step: 2 }];
  const rightOnes: readonly (readonly [string, Partial<Observation>])[] = [
    ['that keeps its log and its checkpoints', { kept }],
    ['that goes back to its newest checkpoint', { kept, ...wentBackTo(2) }],
    ['that goes back past a damaged checkpoint', { kept: { ...kept, damages }, ...wentBackTo(0) }],
    ['that loses power', keptAtLoss({})],
    [
      'that keeps one checkpoint, which was damaged',
      {
        kept: {
          ...{ ...kept, keep: 1, damages: [{ ms: 4500, step: 4 }] },
          end: { log: commits, checkpoint: undefined },
        },
      },
    ],
    [
      'without checkpoints',
      { kept: { ...kept, keep: undefined, end: { log: commits, checkpoint: undefined } } },
    ],
  ];

  test.each(rightOnes)('hold for a run %s', (_, change) => {
    expect(brokenBy(change)).toEqual([]);
  });

  test.each(wrong)('find %s', (_, change, expected) => {
    expect(brokenBy(change)).toEqual(expected);
  });

  test('find an error that the simulation throws', () => {
    const violations = violationsIn(
      plan,
      { kind: 'threw', message: 'index 9 of 4' },
      reference,
      'sim',
    );
    expect(violations).toEqual([{ invariant: 'no-crash', found: 'index 9 of 4' }]);
  });

  test('of a run that must fail: it fails, and its steps until then are right', () => {
    const failing = planOf({ ...kill, outcome: 'failed' }, 'sim');
    const failed = { outcome: 'failed', evaluation: [] } as const;
    expect(brokenBy({ ...failed, commits: commits.slice(0, 1) }, failing)).toEqual([]);
    expect(brokenBy({}, failing)).toEqual(['outcome']);
    const other = changed(commits.slice(0, 2), 1, { digest: 'x' });
    expect(brokenBy({ ...failed, commits: other }, failing)).toEqual(['weights']);
  });

  test('hold exactly if the expectations of the plan hold', () => {
    const changes = fc.subarray([...wrong.map(([, change]) => change), {}], { maxLength: 2 });
    fc.assert(
      fc.property(changes, ([first = {}, second = {}]) => {
        const seen: Observation = { ...right, ...first, ...second };
        const verdicts = judge(plan, topology, seen, reference);
        const isRight = verdicts.every(({ holds }) => holds);
        expect(brokenBy({ ...first, ...second }).length === 0).toBe(isRight);
      }),
    );
  });
});
