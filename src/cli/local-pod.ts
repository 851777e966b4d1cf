import { closeSync, existsSync, openSync, readSync, statSync } from 'node:fs';
import { isAlive, type ProcessIdentity } from '../../cluster/host/process-identity.ts';
import { type PodProcesses, readProcesses } from '../../cluster/process/spawn.ts';
import { PodError } from '../numerics/error.ts';
import { type PodFile, readPodFile } from './pod-file.ts';

/** A pod of processes that `pod up` started in a folder of this machine. */
export type StartedPod = PodFile & PodProcesses;

/** Whether a process of the pod lives. */
export function lives(process: ProcessIdentity | undefined): boolean {
  return process !== undefined && isAlive(process);
}

export function needPod(dir: string): StartedPod {
  const pod = readPodFile(dir);
  if (pod === undefined) throw noPod(dir);
  return { ...pod, ...needProcesses(dir) };
}

export function needProcesses(dir: string): PodProcesses {
  const processes = readProcesses(dir);
  if (processes === undefined) throw noPod(dir);
  return processes;
}

/** What is said where a folder has no pod. */
export function noPod(dir: string): PodError {
  return new PodError('bad-flag', `--dir ${dir}: expected a pod, found none; pod up starts one`);
}

/** The last lines of a file. */
export function tail(path: string, count: number): string[] {
  if (!existsSync(path)) return [];
  const bytes = 65536;
  const { size } = statSync(path);
  const file = openSync(path, 'r');
  const piece = Buffer.alloc(Math.min(bytes, size));
  readSync(file, piece, 0, piece.length, size - piece.length);
  closeSync(file);
  return piece.toString('utf8').trimEnd().split('\n').slice(-count);
}
