import { join } from 'node:path';
import { holderOf } from '../../cluster/host/lock.ts';
import { lastErrorAmong } from '../../cluster/process/last-error.ts';
import { readPodEnd, type SeenEnd } from '../../cluster/supervisor/pod-end.ts';
import { PodError } from '../numerics/error.ts';
import { oneLine } from '../numerics/quote.ts';
import { listedProcesses, lives, noPod, tail, withAdvice } from './local-pod.ts';
import { readPodFile } from './pod-file.ts';

/**
 * State of a pod that `pod up` started. `damage` is present if the pod is alive but its list of
 * processes is damaged.
 */
export type PodState =
  | { readonly kind: 'lives'; readonly damage?: PodError }
  /** The master crashed, and the supervisor is about to start it again. */
  | { readonly kind: 'restarts' }
  /** The pod has ended. `end` is undefined if the end was not recorded. */
  | { readonly kind: 'ended'; readonly end: SeenEnd | undefined };

/**
 * Returns the state of the pod in the given folder. If the folder is locked, the pod counts as
 * alive, even if its list of processes is damaged.
 *
 * @throws PodError if there is no pod, or if the list of processes is damaged and the folder is not
 * locked.
 */
export function podState(folder: string): PodState {
  if (readPodFile(folder) === undefined) throw noPod(folder);
  const listed = listedProcesses(folder);
  const isHeld = (): boolean => holderOf(folder) !== undefined;
  if (listed instanceof PodError) {
    const damage = withAdvice(folder, listed);
    if (!isHeld()) throw damage;
    return { kind: 'lives', damage };
  }
  if (lives(listed.master)) return { kind: 'lives' };
  if (lives(listed.supervisor)) return { kind: 'restarts' };
  if (isHeld()) return { kind: 'lives' };
  return { kind: 'ended', end: readPodEnd(folder) };
}

/** Describes in one line when and why a pod ended. */
export function endInWords(folder: string, end: SeenEnd | undefined): string {
  if (end === undefined) {
    const why = lastError(folder);
    return `the pod has ended, and its exit code is not known${why === undefined ? '' : `; its last error: ${why}`}`;
  }
  const { exitCode, code, reason, time } = end;
  const when = time === undefined ? '' : ` at ${time.slice(0, 19)}Z`;
  const otherwise = exitCode === 0 ? 'all of the work was done' : 'the user ended it';
  const why = reason === undefined ? otherwise : withCode(code, reason);
  return `the pod ended${when} with exit code ${exitCode}: ${oneLine(why)}`;
}

/**
 * Returns an error that says how the pod in the given folder has ended; undefined if the pod has
 * not ended or its state is not known. Used by a command whose request got no answer from the pod.
 */
export function endOfPod(folder: string): PodError | undefined {
  try {
    const state = podState(folder);
    if (state.kind !== 'ended') return undefined;
    return new PodError('worker-exited', `${folder}: ${endInWords(folder, state.end)}`);
  } catch (error) {
    if (error instanceof PodError) return undefined;
    throw error;
  }
}

/**
 * Returns the last error among the last 200 lines of the master's log, in one line; undefined if
 * these lines contain no error.
 */
export function lastError(folder: string): string | undefined {
  const error = lastErrorAmong(tail(join(folder, 'master.log'), 200));
  return error && oneLine(withCode(error.code, error.message));
}

function withCode(code: string | undefined, text: string): string {
  return code === undefined ? text : `${code}: ${text}`;
}
