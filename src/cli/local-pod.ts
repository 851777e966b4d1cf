import { closeSync } from 'node:fs';
import { join } from 'node:path';
import { holderOf } from '../../cluster/host/lock.ts';
import { isAlive, type ProcessIdentity } from '../../cluster/host/process-identity.ts';
import { type PodProcesses, processesFile, readProcesses } from '../../cluster/process/spawn.ts';
import { lastLines } from '../files/read.ts';
import { PodError } from '../numerics/error.ts';
import { openLog } from './log-tail.ts';
import { type PodFile, readPodFile } from './pod-file.ts';

/** A pod of processes that `pod up` started in a folder of this machine. */
export type StartedPod = PodFile & PodProcesses;

/** True if a process of the pod is alive. */
export function lives(process: ProcessIdentity | undefined): boolean {
  return process !== undefined && isAlive(process);
}

export function needPod(dir: string): StartedPod {
  const pod = readPodFile(dir);
  if (pod === undefined) throw noPod(dir);
  return { ...pod, ...needProcesses(dir) };
}

/**
 * Returns the processes of the pod in the given folder. Throws a PodError if there is no pod, or if
 * the list of its processes is missing or damaged.
 */
export function needProcesses(dir: string): PodProcesses {
  const found = listedProcesses(dir);
  if (found instanceof PodError) throw withAdvice(dir, found);
  return found;
}

/**
 * Appends advice to the error for a missing or damaged list of processes. The advice depends on
 * whether the pod is still running.
 */
export function withAdvice(dir: string, { code, message }: PodError): PodError {
  const holder = holderOf(dir);
  const advice =
    holder === undefined
      ? 'end any process of the pod that is left (find it with ps), then remove this file'
      : `the pod is running, as ${holder}; end the pod (pod down)`;
  return new PodError(code, `${message}; ${advice}`);
}

/**
 * Returns the processes of the pod in the given folder, from the list that the pod wrote there.
 * Returns an error in two cases: the list is damaged, or the list is missing although the pod is
 * running. The error is not thrown, because `pod down` can end the pod in both cases.
 *
 * @throws PodError `bad-flag` if there is neither a list nor a running pod.
 */
export function listedProcesses(dir: string): PodProcesses | PodError {
  try {
    const found = readProcesses(dir);
    if (found !== undefined) return found;
  } catch (error) {
    if (error instanceof PodError) return error;
    throw error;
  }
  if (holderOf(dir) === undefined) throw noPod(dir);
  const path = join(dir, processesFile);
  return new PodError('bad-data', `${path}: expected a list of the pod's processes, found none`);
}

/** Returns the error for a folder without a pod. */
export function noPod(dir: string): PodError {
  return new PodError(
    'bad-flag',
    `--dir ${dir}: expected a pod, found none; start a pod with pod up`,
  );
}

/**
 * Returns the last `count` lines of a log, or no lines if the log does not exist. Throws the errors
 * of {@link openLog}.
 */
export function tail(path: string, count: number): string[] {
  const log = openLog(path);
  if (log === undefined) return [];
  try {
    return lastLines(log, tailBytes).slice(-count);
  } finally {
    closeSync(log.file);
  }
}

const tailBytes = 65_536;
