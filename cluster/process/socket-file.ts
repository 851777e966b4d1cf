import { randomBytes } from 'node:crypto';
import { mkdirSync, readdirSync, rmdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isSystemError } from '../../src/files/system-error.ts';

/**
 * Longest path of a unix socket, in bytes, that all systems accept. Systems cut off a longer path
 * [unix(7)].
 */
const pathBytesMax = 103;

/**
 * Returns a path for a unix socket of this process, with the pid in its name. Returns undefined if
 * no folder can take a socket, for example because the folders for temporary files are read-only or
 * full.
 */
export function socketFile(): string | undefined {
  const name = `pod-${process.pid}-${randomBytes(8).toString('hex')}.sock`;
  const paths = folders().map((folder) => join(folder, name));
  return paths.find((path) => Buffer.byteLength(path) <= pathBytesMax && isUsable(path));
}

/** Removes the socket files of processes that were killed before they could remove them. */
export function removeSocketFiles(pids: readonly number[]): void {
  for (const folder of folders()) {
    for (const name of namesIn(folder)) {
      const pid = Number(/^pod-(\d+)-[0-9a-f]{16}\.sock$/.exec(name)?.[1]);
      if (pids.includes(pid)) rmSync(join(folder, name), { force: true });
    }
  }
}

/** Folders that may hold socket files, in order of preference. */
function folders(): readonly string[] {
  const { XDG_RUNTIME_DIR } = process.env;
  const own = XDG_RUNTIME_DIR === undefined || XDG_RUNTIME_DIR === '' ? [] : [XDG_RUNTIME_DIR];
  return [...new Set([tmpdir(), '/tmp', ...own, '/dev/shm'])];
}

/**
 * True if a socket can be made at `path`. The permissions of the folder do not show whether the
 * disk is full or read-only. So the function tries it: it makes a folder at `path` and removes it
 * again.
 */
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
