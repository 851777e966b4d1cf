import { join } from 'node:path';
import { holderOf } from '../../cluster/host/lock.ts';
import { lastErrorAmong } from '../../cluster/process/last-error.ts';
import { readPodEnd, type SeenEnd } from '../../cluster/supervisor/pod-end.ts';
import { PodError } from '../numerics/error.ts';
import { oneLine } from '../numerics/quote.ts';
import { listedProcesses, lives, noPod, tail, withAdvice } from './local-pod.ts';
import { readPodFile } from './pod-file.ts';

/** What has become of the processes of a pod of `pod up`. */
export type PodState =
  | { readonly kind: 'lives'; readonly damage?: PodError }
  /** Its master crashed, and is to be started again. */
  | { readonly kind: 'restarts' }
  /** How, if anybody saw it. */
  | { readonly kind: 'ended'; readonly end: SeenEnd | undefined };

/**
 * A folder that is held is that of a pod that lives, also if its list of processes is damaged.
 *
 * @throws PodError when there is no pod, or nobody can tell.
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

/** When and why a pod ended, in a line. */
export function endInWords(folder: string, end: SeenEnd | undefined): string {
  if (end === undefined) {
    const why = lastError(folder);
    return `the pod has ended, and nobody saw how${why === undefined ? '' : `; its last error: ${why}`}`;
  }
  const { exitCode, code, reason, time } = end;
  const when = time === undefined ? '' : ` at ${time.slice(0, 19)}Z`;
  const otherwise = exitCode === 0 ? 'all was done' : 'it was told to';
  const why = reason === undefined ? otherwise : withCode(code, reason);
  return `the pod ended${when} with exit code ${exitCode}: ${oneLine(why)}`;
}

/** The error for a command that asked a pod in vain: how the pod has ended. Undefined where nobody knows. */
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

/** The last error in the log of a folder's master, in a line. */
export function lastError(folder: string): string | undefined {
  const error = lastErrorAmong(tail(join(folder, 'master.log'), 200));
  return error && oneLine(withCode(error.code, error.message));
}

function withCode(code: string | undefined, text: string): string {
  return code === undefined ? text : `${code}: ${text}`;
}
