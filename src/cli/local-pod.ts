import { closeSync, existsSync, openSync, readFileSync, readSync, statSync } from 'node:fs';
import { type PodProcesses, readProcesses } from '../../cluster/process/spawn.ts';
import { PodError } from '../numerics/error.ts';
import { type PodFile, readPodFile } from './pod-file.ts';

/** A pod of processes that `pod up` started in a folder of this machine. */
export type StartedPod = PodFile & PodProcesses;

/** Whether a process lives and, where that can be seen, is one of a pod: numbers are used again. */
export function isOurs(pid: number): boolean {
  try {
    process.kill(pid, 0);
  } catch {
    return false;
  }
  const path = `/proc/${pid}/cmdline`;
  if (!existsSync(path)) return !existsSync('/proc/self');
  try {
    return /cluster\/(master|worker)\/main\.js/.test(readFileSync(path, 'utf8'));
  } catch {
    return false;
  }
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

function noPod(dir: string): PodError {
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
