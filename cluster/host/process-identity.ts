import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';

/**
 * A process of this machine. Numbers of processes are used again, so a number alone does not say
 * which process is meant: the time at which it started does.
 */
export interface ProcessIdentity {
  readonly pid: number;
  /** Names the boot of the machine and the start within it; empty where the system does not tell. */
  readonly start: string;
}

/** This process. */
export function ownIdentity(): ProcessIdentity {
  return { pid: process.pid, start: startOf(process.pid) ?? '' };
}

/** The process that has this number now; undefined when there is none, or only its zombie is left. */
export function identityOf(pid: number): ProcessIdentity | undefined {
  const start = startOf(pid);
  return start === undefined ? undefined : { pid, start };
}

/** Whether this very process lives. A start that is not known counts as the same. */
export function isAlive({ pid, start }: ProcessIdentity): boolean {
  const found = startOf(pid);
  return found !== undefined && (start === '' || found === '' || found === start);
}

/** Start time of the process whose number is `pid`; '' if it cannot be read, undefined if there is no such process. */
function startOf(pid: number): string | undefined {
  // 0 and less are groups of processes.
  if (!Number.isSafeInteger(pid) || pid <= 0 || !mayExist(pid)) return undefined;
  if (existsSync('/proc/self/stat')) return startFromProc(pid);
  if (process.platform === 'win32') return '';
  const { status, stdout } = spawnSync('ps', ['-o', 'lstart=', '-p', String(pid)], {
    encoding: 'utf8',
    timeout: 2000,
  });
  return status === 0 ? stdout.trim().replace(/\s+/g, '_') : '';
}

function mayExist(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    // A process of another user exists too.
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

/** State and start are the 3rd and 22nd field; the 2nd is a name that may hold anything [proc(5)]. */
function startFromProc(pid: number): string | undefined {
  let line: string;
  try {
    line = readFileSync(`/proc/${pid}/stat`, 'utf8');
  } catch {
    return undefined;
  }
  const fields = line.slice(line.lastIndexOf(')') + 2).split(' ');
  const [state] = fields;
  return state === 'Z' || state === 'X' ? undefined : `${bootOf()}-${fields[19]}`;
}

let boot: string | undefined;

function bootOf(): string {
  boot ??= readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').slice(0, 8);
  return boot;
}
