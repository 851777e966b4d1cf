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
import { PodError } from '../../src/numerics/error.ts';
import { findInLibc, type LibcFunction } from './libc.ts';
import { isAlive, ownIdentity, type ProcessIdentity } from './process-identity.ts';

/** Held as long as this process lives, unless it is released before. */
export interface Lock {
  /** A child that is given this descriptor holds the lock too, and may outlive this process. */
  readonly file: number;
  release(): void;
}

/** The file in a folder whose lock stands for the folder. It stays when the lock is released. */
export const lockFile = '.lock';

/**
 * Takes a folder for this process alone. `use` says what for: `pod train`, say.
 *
 * The lock is one of the system (flock(2)): it ends with its owner, however that ends, and holds
 * between containers that share the folder. The file only describes the owner, for messages. Where
 * the system has no such lock, the owner's number and start time decide.
 *
 * @throws PodError `in-use`, naming the owner, or `io` when the lock's file cannot be written.
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
 * Takes an existing folder for this process alone, without writing anything into it: flock(2) locks the
 * folder itself. Where the system cannot do that, this works as {@link lockFolder}.
 *
 * @throws PodError `in-use`, naming the owner, or `io`.
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

/** An owner of which nothing is known. */
const someone = 'another process';
const advice = 'wait for its end, or use another folder';

/** The process that has locked an open file. Undefined where the system does not say [proc_locks(5)]. */
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
  // Linux lists a process of another container with the number 0.
  return pid === undefined || Number(pid) <= 0 ? undefined : `process ${pid}`;
}

/** Goes on with a lock whose descriptor this process was started with. Throws `io` as {@link lockFolder}. */
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
 * Takes a file that is open for writing for this process alone, until the descriptor is closed.
 *
 * @throws PodError `in-use`.
 */
export function lockOpened(file: number, what: string): void {
  if (flock(file) === 'taken') throw inUse(what, holderInProc(file) ?? someone);
}

/**
 * Refuses a file that another process has locked with {@link lockOpened}. Changes nothing. A file that is not
 * there, or cannot be opened, passes.
 *
 * @throws PodError `in-use`.
 */
export function refuseTaken(path: string, what: string): void {
  let file: number;
  try {
    file = openSync(path, constants.O_WRONLY | (constants.O_NONBLOCK ?? 0));
  } catch {
    return;
  }
  try {
    // The lock that is taken to find out ends with the descriptor.
    lockOpened(file, what);
  } finally {
    closeSync(file);
  }
}

/** The holder of the lock of a folder, in words; undefined if nobody has it. Changes nothing. */
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
    // The lock that was taken to find out ends with its descriptor.
    closeSync(file);
  }
}

/**
 * The process of this machine that holds the lock of a folder; undefined if nobody does, or if the
 * lock's file does not say who.
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

/** `LOCK_EX | LOCK_NB` [flock(2)]. */
const exclusiveNow = 2 | 4;

function flock(file: number): 'ours' | 'taken' | 'unknown' {
  libcFlock ??= findInLibc('int flock(int fd, int operation)');
  if (typeof libcFlock === 'string') return 'unknown';
  const { error } = libcFlock(file, exclusiveNow);
  if (error === undefined) return 'ours';
  return error === 'EAGAIN' || error === 'EWOULDBLOCK' ? 'taken' : 'unknown';
}

function inUse(what: string, holder: string): PodError {
  return new PodError('in-use', `${what}: in use by ${holder}; wait for its end`);
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
    const why = error instanceof Error ? error.message : String(error);
    throw new PodError('io', `${what}: could not be locked: ${why}`, error);
  }
}
