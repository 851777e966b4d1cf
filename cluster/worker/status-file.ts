import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { z } from 'zod';

/** What a process says of itself to health checks, in a small file. */
export interface ProcessStatus {
  readonly pid: number;
  readonly state: 'starting' | 'ready' | 'ending';
}

const schema = z.object({ pid: z.int().min(1), state: z.enum(['starting', 'ready', 'ending']) });

/** `POD_STATUS_FILE`, or where a container has its tmpfs. */
export function statusPath(env: Readonly<Record<string, string | undefined>>): string {
  return env['POD_STATUS_FILE'] ?? '/tmp/pod-status.json';
}

/** Whole or not at all. Nothing depends on it but health checks: one that fails says so itself. */
export function writeStatus(path: string, state: ProcessStatus['state']): void {
  const status: ProcessStatus = { pid: process.pid, state };
  writeFileSync(`${path}.new`, JSON.stringify(status));
  renameSync(`${path}.new`, path);
}

/** Whether a process that wrote the file lives and is ready. */
export function isReady(path: string): boolean {
  try {
    const { pid, state } = schema.parse(JSON.parse(readFileSync(path, 'utf8')));
    process.kill(pid, 0);
    return state === 'ready';
  } catch {
    return false;
  }
}
