import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';

/**
 * Identity of a process of this machine. The system reuses process numbers, so only the number and
 * the start time together say which process is meant.
 */
export interface ProcessIdentity {
  readonly pid: number;
  /**
   * Start time of the process. On Linux the text begins with an id of the machine's boot. Empty if
   * the system does not report start times.
   */
  readonly start: string;
}

/** Returns the identity of this process. */
export function ownIdentity(): ProcessIdentity {
  return { pid: process.pid, start: startOf(process.pid) ?? '' };
}

/**
 * Returns the identity of the running process that has the number `pid`. Returns undefined if no
 * process has this number, or if the process is a zombie.
 */
export function identityOf(pid: number): ProcessIdentity | undefined {
  const start = startOf(pid);
  return start === undefined ? undefined : { pid, start };
}

/**
 * True if a process with the given number and start time is running. If either start time is
 * unknown (empty), only the number is compared.
 */
export function isAlive({ pid, start }: ProcessIdentity): boolean {
  const found = startOf(pid);
  return found !== undefined && (start === '' || found === '' || found === start);
}

/**
 * Returns the start time of the process with number `pid`: an empty string if the system does not
 * report start times, undefined if no process has this number.
 */
function startOf(pid: number): string | undefined {
  // A number below 1 does not name a process, but a group of processes.
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
    // `EPERM` means that the process exists and belongs to another user.
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

/**
 * Returns the start time of the given process from /proc, or undefined if the process has ended. In
 * the file `stat`, the state of the process is the 3rd field and the start time the 22nd. The 2nd
 * field, the name of the program in parentheses, may contain any character. So fields are counted
 * from the last `)` on [proc(5)].
 */
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
