import { join } from 'node:path';
import { lastErrorAmong } from '../../cluster/process/last-error.ts';
import { readPodEnd, type SeenEnd } from '../../cluster/supervisor/pod-end.ts';
import { oneLine } from '../numerics/quote.ts';
import { lives, needPod, tail } from './local-pod.ts';

/** What has become of the processes of a pod of `pod up`. */
export type PodState =
  | { readonly kind: 'lives' }
  /** Its master crashed, and is to be started again. */
  | { readonly kind: 'restarts' }
  /** How, if anybody saw it. */
  | { readonly kind: 'ended'; readonly end: SeenEnd | undefined };

export function podState(folder: string): PodState {
  const { master, supervisor } = needPod(folder);
  if (lives(master)) return { kind: 'lives' };
  if (lives(supervisor)) return { kind: 'restarts' };
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
  return `the pod ended${when} with exit code ${exitCode}: ${why}`;
}

/** The last error in the log of a folder's master, in a line. */
export function lastError(folder: string): string | undefined {
  const error = lastErrorAmong(tail(join(folder, 'master.log'), 200));
  return error && oneLine(withCode(error.code, error.message));
}

function withCode(code: string | undefined, text: string): string {
  return code === undefined ? text : `${code}: ${text}`;
}
