import type { StepCommitted } from '../experiment/event.ts';
import type { SeenEvent } from '../fault/seen.ts';
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
    commits.push({ ...commitOf(event), ms });
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
 * Converts an event of a run to the form that all kinds of pods share. Returns undefined for an
 * event that only some kinds of pods report.
 */
export function seenOf({ ms, event }: Told): SeenEvent | undefined {
  switch (event.kind) {
    case 'note':
      return { kind: 'note', ms, note: event.note };
    case 'straggler':
      return { kind: 'straggler', ms, tpu: event.tpu };
    case 'step':
      return { kind: 'step', ms, ...commitOf(event) };
    default:
      return undefined;
  }
}

/**
 * Returns the line that `pod chaos run` prints for an event of the run; undefined for a committed
 * step, which it does not print.
 */
export function lineOf(event: SeenEvent): string | undefined {
  switch (event.kind) {
    case 'note':
      return noteLine(event.note);
    case 'straggler':
      return `straggler Cloud TPU ${event.tpu}: the slowest for several steps in a row`;
    case 'step':
      return undefined;
  }
}

/** Returns the line that tells of a loss, a suspicion or a stage of the recovery. */
function noteLine({ event, tpu, cause }: Note): string {
  return `${event}${tpu === null ? '' : ` Cloud TPU ${tpu}`}: ${cause}`;
}

function commitOf({ step, digest, loss, wallMs }: StepCommitted): Omit<CommitSeen, 'ms'> {
  return { step, digest, loss, wallMs };
}
