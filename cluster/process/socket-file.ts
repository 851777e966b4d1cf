import { randomBytes } from 'node:crypto';
import { mkdirSync, readdirSync, rmdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isSystemError } from '../../src/files/system-error.ts';

/** The longest path of a unix socket, in bytes, on all systems; a longer one is cut off [unix(7)]. */
const pathBytesMax = 103;

/**
 * A path for a unix socket of this process; its name says whose it is. Undefined where no folder
 * takes it: a temporary folder may be missing, read-only or full.
 */
export function socketFile(): string | undefined {
  const name = `pod-${process.pid}-${randomBytes(8).toString('hex')}.sock`;
  const paths = folders().map((folder) => join(folder, name));
  return paths.find((path) => Buffer.byteLength(path) <= pathBytesMax && isUsable(path));
}

/** Removes the sockets of processes that have ended, and were killed before they could do so. */
export function removeSocketFiles(pids: readonly number[]): void {
  for (const folder of folders()) {
    for (const name of namesIn(folder)) {
      const pid = Number(/^pod-(\d+)-[0-9a-f]{16}\.sock$/.exec(name)?.[1]);
      if (pids.includes(pid)) rmSync(join(folder, name), { force: true });
    }
  }
}

/** Where sockets may lie, the usual place first. */
function folders(): readonly string[] {
  const { XDG_RUNTIME_DIR } = process.env;
  const own = XDG_RUNTIME_DIR === undefined || XDG_RUNTIME_DIR === '' ? [] : [XDG_RUNTIME_DIR];
  return [...new Set([tmpdir(), '/tmp', ...own, '/dev/shm'])];
}

/** Permissions do not tell all: whether something can be made there shows when it is made. */
function isUsable(path: string): boolean {
  try {
    mkdirSync(path, { mode: 0o700 });
    rmdirSync(path);
    return true;
  } catch (error) {
    if (isSystemError(error)) return false;
    throw error;
  }
}

function namesIn(folder: string): readonly string[] {
  try {
    return readdirSync(folder);
  } catch (error) {
    if (isSystemError(error)) return [];
    throw error;
  }
}
