import { readdirSync, readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { identityOf, type ProcessIdentity } from '../host/process-identity.ts';

/**
 * Finds the masters and workers of the pod in the given folder: processes whose environment
 * variables name the folder. Used when the list of processes in the folder is missing or damaged.
 * Needs /proc; returns an empty list on systems without it.
 */
export function processesOfFolder(folder: string): readonly ProcessIdentity[] {
  const start = `POD_STATUS_FILE=${resolve(folder)}/`;
  const isOurs = (variable: string): boolean =>
    variable.startsWith(start) && /^(master|tpu-\d+)\.status$/.test(variable.slice(start.length));
  return pids()
    .filter((pid) => environmentOf(pid).some(isOurs))
    .flatMap((pid) => identityOf(pid) ?? []);
}

function pids(): number[] {
  try {
    return readdirSync('/proc').map(Number).filter(Number.isInteger);
  } catch {
    return [];
  }
}

/**
 * Returns the environment variables of process `pid`, as `NAME=value`. The list is empty if the
 * process has ended or belongs to another user.
 */
function environmentOf(pid: number): string[] {
  try {
    return readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0');
  } catch {
    return [];
  }
}
