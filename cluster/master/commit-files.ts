import {
  closeSync,
  existsSync,
  fstatSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readSync,
  writeSync,
} from 'node:fs';
import { syncDirectory } from '../host/sync-directory.ts';

/**
 * The file operations that a commit log needs. They are few, so that a test can put a file system in
 * memory in their place, stop it at any operation, and drop all bytes that were not synced. Each throws
 * the errors that Node throws.
 */
export interface CommitFiles {
  /** Whether a directory is there. */
  hasDirectory(path: string): boolean;
  /** Makes one directory; its parent must be there. One that is there already is left. */
  makeDirectory(path: string): void;
  /** Opens a file to be read and added to, and makes it where it is missing. */
  open(path: string): CommitFile;
  /** What the directory lists outlasts a loss of power. */
  syncDirectory(path: string): void;
}

export interface CommitFile {
  size(): number;
  /** Reads bytes from `position` on into `target`; returns how many. */
  read(target: Uint8Array, position: number): number;
  /** Adds the first bytes of `bytes` to the end; returns how many. */
  append(bytes: Uint8Array): number;
  /** What was added outlasts a loss of power. */
  sync(): void;
  close(): void;
}

/** The files of this machine. */
export const nodeCommitFiles: CommitFiles = {
  hasDirectory: existsSync,
  makeDirectory: (path) => void mkdirSync(path, { recursive: true }),
  open,
  syncDirectory,
};

function open(path: string): CommitFile {
  const file = openSync(path, 'a+');
  return {
    size: () => fstatSync(file).size,
    read: (target, position) => readSync(file, target, 0, target.length, position),
    append: (bytes) => writeSync(file, bytes),
    sync: () => fsyncSync(file),
    close: () => closeSync(file),
  };
}
