import { readLedger } from '../../cluster/runtime/fault-file.ts';
import type { StepCommitted } from '../experiment/event.ts';
import type { SeenEvent } from '../fault/seen.ts';
import type { CommitSeen, Observation } from '../fault/verdict.ts';
import { type ErrorCode, PodError } from '../numerics/error.ts';
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

/** How a master in another process ended: its exit code, and its last error. */
export interface MasterEnded {
  readonly code: number | null;
  readonly complaint: string;
}

/**
 * Collects what was seen of a run whose master was another process. `ledger` is the path of the
 * ledger of the faults. `who` begins the message of an error.
 *
 * @throws PodError if the run was refused before its first step.
 */
export function observationAfter(
  { code, complaint }: MasterEnded,
  told: readonly Told[],
  ledger: string,
  who: string,
): Observation {
  if (code !== 0 && code !== 3 && !hasBegun(told)) {
    throw new PodError(codeOfEnd(code), `${who}: ${complaint}`);
  }
  return observationOf(told, readLedger(ledger), code === 0 ? '' : complaint);
}

/** Returns the error code for a pod that refused to run. `exitCode` is the exit code of the pod. */
function codeOfEnd(exitCode: number | null): ErrorCode {
  if (exitCode === 4) return 'out-of-memory';
  return exitCode === 5 ? 'io' : 'bad-plan';
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
