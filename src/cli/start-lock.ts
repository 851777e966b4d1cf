import { existsSync, linkSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { PodError } from '../numerics/error.ts';

/** How long whoever ends a pod waits for one that is starting it, in ms. */
const startMsLimit = 10_000;

/**
 * Does something to a pod's folder that only one process may do at a time: `work` starts a pod. A lock
 * whose owner was killed does not count.
 *
 * @throws PodError `bad-flag` when another process is at it.
 */
export function whileStarting<T>(folder: string, work: () => T): T {
  const path = lockFile(folder);
  if (!take(path)) {
    const owner = ownerOf(path);
    if (owner !== undefined) {
      const found = `another pod up (pid ${owner}) is starting a pod there`;
      throw new PodError('bad-flag', `--dir ${folder}: ${found}`);
    }
    rmSync(path, { force: true });
    if (!take(path)) {
      throw new PodError('bad-flag', `--dir ${folder}: another pod up is starting a pod there`);
    }
  }
  try {
    return work();
  } finally {
    rmSync(path, { force: true });
  }
}

/** Waits until nobody is starting a pod in a folder, for as long as that may take. */
export async function untilStarted(folder: string): Promise<void> {
  const path = lockFile(folder);
  const endMs = performance.now() + startMsLimit;
  while (ownerOf(path) !== undefined && performance.now() < endMs) await sleep(50);
}

function lockFile(folder: string): string {
  return join(folder, 'starting');
}

/** Whether it was free, and is this process's now: it is there with its owner's number, or not at all. */
function take(path: string): boolean {
  const draft = `${path}.${process.pid}`;
  writeFileSync(draft, `${process.pid}\n`, { mode: 0o600 });
  try {
    linkSync(draft, path);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  } finally {
    rmSync(draft);
  }
}

/** The process that has the lock, if it lives. */
function ownerOf(path: string): number | undefined {
  if (!existsSync(path)) return undefined;
  const pid = Number(readFileSync(path, 'utf8'));
  // 0 and less are groups of processes.
  if (!Number.isSafeInteger(pid) || pid <= 0) return undefined;
  try {
    process.kill(pid, 0);
    return pid;
  } catch (error) {
    // Another user's process lives, too.
    return (error as NodeJS.ErrnoException).code === 'EPERM' ? pid : undefined;
  }
}
