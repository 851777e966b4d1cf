import { readdirSync, readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { identityOf, type ProcessIdentity } from '../host/process-identity.ts';

/**
 * The masters and workers of a folder's pod as their environments tell (Linux), for when the folder's
 * own list cannot be used: none of them where the system does not say.
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

/** Empty of a process that has ended, or is another user's. */
function environmentOf(pid: number): string[] {
  try {
    return readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0');
  } catch {
    return [];
  }
}
