import {
  closeSync,
  constants,
  fstatSync,
  ftruncateSync,
  openSync,
  readFileSync,
  writeSync,
} from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import { messageOf, PodError } from '../../src/numerics/error.ts';
import { findInLibc, type LibcFunction } from './libc.ts';
import { isAlive, ownIdentity, type ProcessIdentity } from './process-identity.ts';

/** Lock on a folder or a file. The lock lasts until this process calls `release` or ends. */
export interface Lock {
  /**
   * Descriptor of the locked file or folder. A child process that inherits the descriptor also
   * holds the lock: the lock then lasts until both processes have ended.
   */
  readonly file: number;
  release(): void;
}

/**
 * To lock a folder, {@link lockFolder} locks a file with this name in the folder. The file still
 * exists after the lock is released.
 */
export const lockFile = '.lock';

/**
 * Locks the given folder, so that no other process can lock the folder. `use` says what the folder
 * is locked for, such as `pod train`. Messages to other processes contain these words.
 *
 * The lock is a flock(2) on the file {@link lockFile} in the folder. The system releases the lock
 * when its owner ends, even after a crash. The lock also holds between containers that share the
 * folder. On a system without flock(2), the lock file names the process that owns the lock. The
 * folder then counts as locked while that process is running on this machine.
 *
 * @throws PodError `in-use`, which names the owner, if another process has locked the folder; `io`
 *   if the lock file cannot be written.
 */
export function lockFolder(folder: string, use: string): Lock {
  const path = join(folder, lockFile);
  const file = attempt(folder, () => openSync(path, constants.O_RDWR | constants.O_CREAT, 0o666));
  try {
    if (!take(file, path)) throw inUse(folder, ownerInWords(readOwner(path)));
    attempt(folder, () => describe(file, use));
  } catch (error) {
    closeSync(file);
    throw error;
  }
  return heldBy(file);
}

/**
 * Locks the given folder, which must exist, so that no other process can lock it. `use` says what
 * the folder is locked for. Writes nothing into the folder, because flock(2) can lock the folder
 * itself. On a system where flock(2) cannot lock a folder, the lock is a file in the folder, as
 * with {@link lockFolder}.
 *
 * @throws PodError `in-use`, which names the owner, if another process has locked the folder; `io`
 *   if the folder cannot be opened.
 */
export function lockDirectory(folder: string, use: string): Lock {
  if (process.platform === 'win32') return lockFolder(folder, use);
  const file = attempt(folder, () => openSync(folder, constants.O_RDONLY));
  const outcome = flock(file);
  if (outcome === 'ours') return { file, release: () => closeSync(file) };
  const owner = outcome === 'taken' ? holderInProc(file) : undefined;
  closeSync(file);
  if (outcome === 'unknown') return lockFolder(folder, use);
  throw new PodError('in-use', `${folder}: in use by ${owner ?? someone}; ${advice}`);
}

/**
 * Name for the owner of a lock in messages, if the system does not say which process owns the lock.
 */
const someone = 'another process';
const advice = 'wait until that process has ended, or use another folder';

/**
 * Returns the words `process N` for the process that has locked the given open file or folder.
 * Returns undefined if the system does not name that process [proc_locks(5)].
 */
function holderInProc(file: number): string | undefined {
  let text: string;
  try {
    text = readFileSync('/proc/locks', 'utf8');
  } catch {
    return undefined;
  }
  const { ino } = fstatSync(file);
  const pid = text
    .split('\n')
    .map((line) => line.trim().split(/\s+/))
    .find(([, kind, , , , place]) => kind === 'FLOCK' && place?.endsWith(`:${ino}`))?.[4];
  // If the process runs in another container, Linux gives 0 as its number.
  return pid === undefined || Number(pid) <= 0 ? undefined : `process ${pid}`;
}

/**
 * Takes over a lock that this process has inherited from its parent process, and writes into the
 * lock file that this process is now the owner. `file`: descriptor of the lock file. `what`: name
 * of the lock file in messages. `use`: what this process needs the lock for.
 *
 * @throws PodError `io` if the lock file cannot be written.
 */
export function keepLock(file: number, what: string, use: string): Lock {
  attempt(what, () => describe(file, use));
  return heldBy(file);
}

function heldBy(file: number): Lock {
  return {
    file,
    release: () => {
      ftruncateSync(file, 0);
      closeSync(file);
    },
  };
}

/**
 * Locks an open file, so that no other process can lock the file. The lock lasts until the
 * descriptor `file` is closed. The file must be open for writing. On a system without flock(2),
 * does nothing. `what` names the file in messages.
 *
 * @throws PodError `in-use` if another process has locked the file.
 */
export function lockOpened(file: number, what: string): void {
  if (flock(file) === 'taken') throw inUse(what, holderInProc(file) ?? someone);
}

/**
 * Checks that no other process has locked the given file with {@link lockOpened}. This process does
 * not keep a lock on the file. If the file cannot be opened, or if the system has no flock(2), the
 * file counts as not locked.
 *
 * @throws PodError `in-use` if another process has locked the file.
 */
export function requireUnlocked(path: string, what: string): void {
  let file: number;
  try {
    file = openSync(path, constants.O_WRONLY | (constants.O_NONBLOCK ?? 0));
  } catch {
    return;
  }
  try {
    // To check for a lock, lock the file. Closing the descriptor releases the lock again.
    lockOpened(file, what);
  } finally {
    closeSync(file);
  }
}

/**
 * Returns a description of the process that has locked the given folder with {@link lockFolder}.
 * Returns undefined if no process holds that lock. The check leaves no lock behind.
 */
export function holderOf(folder: string): string | undefined {
  const path = join(folder, lockFile);
  let file: number;
  try {
    file = openSync(path, constants.O_RDWR);
  } catch {
    return undefined;
  }
  try {
    return take(file, path) ? undefined : ownerInWords(readOwner(path));
  } finally {
    // The check locks the file if no other process holds the lock. Closing the descriptor releases
    // that lock.
    closeSync(file);
  }
}

/**
 * Returns the process on this machine that has locked the given folder with {@link lockFolder}.
 * Returns undefined if no process holds the lock, or if the lock file does not name a running
 * process of this machine (for example, because a process on another machine holds the lock).
 */
export function holdingProcess(folder: string): ProcessIdentity | undefined {
  if (holderOf(folder) === undefined) return undefined;
  const owner = readOwner(join(folder, lockFile));
  if (owner === undefined || owner.host !== hostname() || !isAlive(owner)) return undefined;
  return { pid: owner.pid, start: owner.start };
}

const ownerSchema = z.object({
  pid: z.int(),
  start: z.string(),
  host: z.string(),
  use: z.string(),
  since: z.string(),
});
type Owner = z.infer<typeof ownerSchema>;

function describe(file: number, use: string): void {
  const owner: Owner = {
    ...ownIdentity(),
    ...{ host: hostname(), use, since: new Date().toISOString() },
  };
  ftruncateSync(file, 0);
  writeSync(file, `${JSON.stringify(owner)}\n`, 0);
}

function readOwner(path: string): Owner | undefined {
  try {
    return ownerSchema.safeParse(JSON.parse(readFileSync(path, 'utf8'))).data;
  } catch {
    return undefined;
  }
}

function take(file: number, path: string): boolean {
  const outcome = flock(file);
  if (outcome !== 'unknown') return outcome === 'ours';
  const owner = readOwner(path);
  return owner === undefined || owner.host !== hostname() || !isAlive(owner);
}

let libcFlock: LibcFunction | string | undefined;

/** Operation of flock(2) that takes an exclusive lock and does not wait: `LOCK_EX | LOCK_NB`. */
const exclusiveNow = 2 | 4;

function flock(file: number): 'ours' | 'taken' | 'unknown' {
  libcFlock ??= findInLibc('int flock(int fd, int operation)');
  if (typeof libcFlock === 'string') return 'unknown';
  const { error } = libcFlock(file, exclusiveNow);
  if (error === undefined) return 'ours';
  return error === 'EAGAIN' || error === 'EWOULDBLOCK' ? 'taken' : 'unknown';
}

function inUse(what: string, holder: string): PodError {
  return new PodError('in-use', `${what}: in use by ${holder}; wait until that process has ended`);
}

function ownerInWords(owner: Owner | undefined): string {
  if (owner === undefined) return someone;
  const { use, pid, host, since } = owner;
  const where = host === hostname() ? '' : ` on ${host}`;
  return `${use} (pid ${pid}${where}, since ${since.slice(0, 19)}Z)`;
}

function attempt<T>(what: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw new PodError('io', `${what}: could not be locked: ${messageOf(error)}`, error);
  }
}
