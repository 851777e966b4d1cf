import { progressMsLimit } from './case.ts';
import { differenceIn, outOfOrder } from './differences.ts';
import { lostCommit, wrongCheckpoint } from './kept.ts';
import type { FaultPlan, Ground } from './plan.ts';
import { type CommitSeen, lostCheckpointIn, type Observation, type Reference } from './verdict.ts';

/** How a run with faults ended: with an observation, or with an error that the program threw. */
export type Ending =
  | { readonly kind: 'ended'; readonly seen: Observation }
  | { readonly kind: 'threw'; readonly message: string };

/** Names of the invariants of a run with faults, with what each of them says. */
export const invariants = {
  'no-crash': 'no assertion fails, and nothing is thrown that is not an error of the run',
  order: 'every step is committed once, in order',
  weights: 'after each committed step the weights are those of the run without faults',
  samples: 'the loss of each committed step is that of the run without faults',
  agreement: 'a step is committed only if all Cloud TPUs have the same weights',
  evaluation: 'the evaluation gives the weights and losses of the run without faults',
  log: 'after the run and a loss of power, the commit log has each committed step',
  checkpoints: 'no loss of power and no return to a checkpoint goes back further than necessary',
  outcome: 'a run that can recover is done, with all its steps; any other run fails',
  progress: 'after each fault a step is committed within a bounded time',
} as const;

/** Name of an invariant: a key of {@link invariants}. */
export type InvariantName = keyof typeof invariants;

/** An invariant that a run has broken, and what was found. */
export interface Violation {
  readonly invariant: InvariantName;
  readonly found: string;
}

/**
 * Returns the invariants that a run with faults has broken, in the order of {@link invariants}.
 * `reference` is the same run without faults. `plan.expect.outcome` says how the run must end, by
 * default `done`. The steps that a run commits are checked even if the run must fail. `ground` is
 * the kind of pod, on which the limits of time depend.
 */
export function violationsIn(
  plan: FaultPlan,
  ending: Ending,
  reference: Reference,
  ground: Ground,
): readonly Violation[] {
  if (ending.kind === 'threw') return [{ invariant: 'no-crash', found: ending.message }];
  const { seen } = ending;
  const found: readonly (readonly [InvariantName, string | undefined])[] = [
    ['order', wrongOrder(seen)],
    ['weights', otherIn(seen.commits, reference.commits, 'digest')],
    ['samples', otherIn(seen.commits, reference.commits, 'loss')],
    ['agreement', disagreement(seen)],
    ['evaluation', otherEvaluation(seen, reference)],
    ['log', lostCommit(seen.kept, seen.commits)],
    ['checkpoints', lostCheckpointIn(seen) ?? wrongCheckpoint(seen.kept, reference.commits)],
    ['outcome', wrongOutcome(plan, seen, reference)],
    ['progress', standstill(plan, seen, ground)],
  ];
  return found.flatMap(([invariant, it]) => (it === undefined ? [] : [{ invariant, found: it }]));
}

function wrongOrder({ commits }: Observation): string | undefined {
  const odd = outOfOrder(commits);
  return odd && `step ${odd.step} was committed after step ${odd.after}`;
}

/**
 * Names the first commit whose digest or loss differs from that of the same step in the run without
 * faults. Returns undefined if there is none.
 */
function otherIn(
  commits: readonly CommitSeen[],
  reference: Reference['commits'],
  field: 'digest' | 'loss',
): string | undefined {
  const other = differenceIn(commits, reference, field);
  if (other === undefined) return undefined;
  return `${field} ${other.found} of step ${other.step}, without faults ${other.expected}`;
}

function disagreement({ disagreements = [] }: Observation): string | undefined {
  const [step] = disagreements;
  if (step === undefined) return undefined;
  return `step ${step} was committed, and the Cloud TPUs had reported different weights`;
}

function otherEvaluation(
  { evaluation = [] }: Observation,
  { evaluation: expected = [] }: Reference,
): string | undefined {
  const found = otherIn(evaluation, expected, 'digest') ?? otherIn(evaluation, expected, 'loss');
  return found && `in the evaluation: ${found}`;
}

function wrongOutcome(
  { expect: { outcome = 'done' } }: FaultPlan,
  { outcome: found, message, commits, evaluation = [] }: Observation,
  reference: Reference,
): string | undefined {
  if (found !== outcome) return message === '' ? found : `${found}: ${message}`;
  if (outcome === 'failed') return undefined;
  const missing = reference.commits.length - commits.length;
  if (missing !== 0) return `done with ${commits.length} of ${reference.commits.length} steps`;
  const batches = reference.evaluation?.length ?? 0;
  if (evaluation.length === batches) return undefined;
  return `done with ${evaluation.length} of ${batches} batches of the evaluation`;
}

/**
 * Names the first fault after which the next commit came too late; undefined if there is none. A
 * fault after the last commit is not judged, because no commit needs to follow it.
 */
function standstill({ faults }: FaultPlan, seen: Observation, ground: Ground): string | undefined {
  const limitMs = progressMsLimit(faults, ground);
  for (const { index, ms } of seen.injections) {
    const commit = seen.commits.find((it) => it.ms >= ms);
    if (commit === undefined || commit.ms - ms <= limitMs) continue;
    const tookMs = Math.round(commit.ms - ms);
    return `the next commit after faults.${index} took ${tookMs} ms, at most ${limitMs} expected`;
  }
  return undefined;
}
