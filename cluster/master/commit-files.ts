import {
  closeSync,
  existsSync,
  fstatSync,
  fsyncSync,
  openSync,
  readSync,
  writeSync,
} from 'node:fs';
import { makeDirectory } from '../../src/files/make-directory.ts';
import { syncDirectory } from '../host/sync-directory.ts';

/**
 * The file operations that a commit log needs. There are few of them, so that a test can replace
 * the file system by one in memory. The test can then stop the log before any operation and drop
 * all bytes that were not synced, as a loss of power does. Each operation throws the errors that
 * Node throws.
 */
export interface CommitFiles {
  /** True if the directory exists. */
  hasDirectory(path: string): boolean;
  /** Makes one directory, whose parent must exist. Does nothing if the directory exists. */
  makeDirectory(path: string): void;
  /** Opens a file for reading and appending, and creates the file if it does not exist. */
  open(path: string): CommitFile;
  /** Syncs the directory to disk, so that the names in it survive a loss of power. */
  syncDirectory(path: string): void;
}

export interface CommitFile {
  /** Returns the size of the file, in bytes. */
  size(): number;
  /** Reads bytes from `position` on into `target`. Returns the number of bytes read. */
  read(target: Uint8Array, position: number): number;
  /**
   * Appends `bytes` to the file in one write. Returns the number of bytes written, which is less
   * than `bytes.length` if the disk is full.
   */
  append(bytes: Uint8Array): number;
  /** Syncs the file to disk, so that appended bytes survive a loss of power. */
  sync(): void;
  close(): void;
}

/** Implementation of {@link CommitFiles} with the file system of this machine. */
export const nodeCommitFiles: CommitFiles = {
  hasDirectory: existsSync,
  makeDirectory: (path) => makeDirectory(path),
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
