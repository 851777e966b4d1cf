import { renameSync, writeFileSync } from 'node:fs';
import { readSmallText } from '../../src/files/read.ts';

/** Contents of the status file, by which a process tells health checks its state. */
export interface ProcessStatus {
  readonly pid: number;
  readonly state: 'starting' | 'ready' | 'ending';
}

/**
 * Returns the path of the status file: the value of `POD_STATUS_FILE`. If that variable is not set,
 * the path of a file in /tmp. In containers, /tmp is a file system in memory.
 */
export function statusPath(env: Readonly<Record<string, string | undefined>>): string {
  return env['POD_STATUS_FILE'] ?? '/tmp/pod-status.json';
}

/**
 * Writes the status file in such a way that a reader never sees half of it. If the file cannot be
 * written, calls `failed` with the reason and returns: only health checks depend on the file.
 */
export function writeStatus(
  path: string,
  state: ProcessStatus['state'],
  failed: (why: string) => void,
): void {
  const status: ProcessStatus = { pid: process.pid, state };
  try {
    writeFileSync(`${path}.new`, JSON.stringify(status));
    renameSync(`${path}.new`, path);
  } catch (error) {
    failed(`status file ${path}: could not be written: ${(error as Error).message}`);
  }
}

/** True if the process that wrote the file is alive and ready. */
export function isReady(path: string): boolean {
  try {
    const status = JSON.parse(readSmallText(path) ?? 'null') as Partial<ProcessStatus> | null;
    if (status?.state !== 'ready' || !isPid(status.pid)) return false;
    return process.kill(status.pid, 0);
  } catch {
    return false;
  }
}

/** True if `pid` is the number of a single process; 0 and negative numbers stand for groups. */
function isPid(pid: unknown): pid is number {
  return Number.isSafeInteger(pid) && (pid as number) > 0;
}
