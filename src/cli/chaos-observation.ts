import type { CommitSeen, Observation } from '../fault/verdict.ts';
import type { Note } from '../pod/master/action.ts';
import type { RunFact } from '../run/event.ts';

/** An event of a run and the time, in ms, when it was told. */
export interface Told {
  readonly ms: number;
  readonly event: RunFact;
}

/**
 * True if the run came as far as its first step. If such a run fails, its error is a result that
 * the fault plan judges. An error before the first step ends `pod chaos run`.
 */
export function hasBegun(told: readonly Told[]): boolean {
  return told.some(({ event }) => event.kind === 'ready');
}

/**
 * Collects from the events of a run what is needed to judge the expectations of a fault plan.
 * `failure` is the message of the error that ended the run; empty if the run was completed.
 */
export function observationOf(
  told: readonly Told[],
  injections: Observation['injections'],
  failure: string,
): Observation {
  const commits: CommitSeen[] = [];
  const notes: Observation['notes'][number][] = [];
  const stragglers: Observation['stragglers'][number][] = [];
  for (const { ms, event } of told) {
    if (event.kind === 'note') notes.push({ ms, note: event.note });
    if (event.kind === 'straggler') stragglers.push({ ms, tpu: event.tpu });
    if (event.kind !== 'step') continue;
    const { step, digest, loss, wallMs } = event;
    commits.push({ step, digest, loss, wallMs, ms });
  }
  const timeOf = (kind: RunFact['kind']): number | undefined =>
    told.find(({ event }) => event.kind === kind)?.ms;
  const lastMs = told.at(-1)?.ms ?? 0;
  return {
    ...{
      outcome: failure === '' ? 'done' : 'failed',
      message: failure,
      commits,
      notes,
      stragglers,
    },
    injections: [...injections].sort((a, b) => a.ms - b.ms),
    ...{ beginMs: timeOf('ready') ?? lastMs, endMs: timeOf('evaluating') ?? lastMs },
  };
}

/**
 * Returns the line that `pod chaos run` prints for an event of the run; undefined for an event that
 * it does not print.
 */
export function lineOf(event: RunFact): string | undefined {
  if (event.kind === 'note') return noteLine(event.note);
  if (event.kind !== 'straggler') return undefined;
  return `straggler Cloud TPU ${event.tpu}: the slowest for ${event.inARow} steps`;
}

/** Returns the line that tells of a loss, a suspicion or a stage of the recovery. */
export function noteLine({ event, tpu, cause }: Note): string {
  return `${event}${tpu === null ? '' : ` Cloud TPU ${tpu}`}: ${cause}`;
}
