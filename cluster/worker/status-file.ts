import { renameSync, writeFileSync } from 'node:fs';
import { readSmallText } from '../../src/files/read.ts';

/** What a process says of itself to health checks, in a small file. */
export interface ProcessStatus {
  readonly pid: number;
  readonly state: 'starting' | 'ready' | 'ending';
}

/** `POD_STATUS_FILE`, or where a container has its tmpfs. */
export function statusPath(env: Readonly<Record<string, string | undefined>>): string {
  return env['POD_STATUS_FILE'] ?? '/tmp/pod-status.json';
}

/**
 * Whole or not at all. Nothing depends on it but health checks: a process goes on where the disk does
 * not take it, and `failed` is told why.
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

/** Whether a process that wrote the file lives and is ready. */
export function isReady(path: string): boolean {
  try {
    const status = JSON.parse(readSmallText(path) ?? 'null') as Partial<ProcessStatus> | null;
    if (status?.state !== 'ready' || !isPid(status.pid)) return false;
    return process.kill(status.pid, 0);
  } catch {
    return false;
  }
}

/** Whether it is the number of one process: 0 and less stand for groups. */
function isPid(pid: unknown): pid is number {
  return Number.isSafeInteger(pid) && (pid as number) > 0;
}
