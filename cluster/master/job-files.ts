import {
  appendFileSync,
  closeSync,
  existsSync,
  fsyncSync,
  openSync,
  readdirSync,
  renameSync,
  statSync,
  truncateSync,
} from 'node:fs';
import { makeDirectory } from '../../src/files/make-directory.ts';
import { readAt as readFrom, readRegularFile } from '../../src/files/read.ts';
import { writeAll } from '../../src/files/write.ts';
import { PodError } from '../../src/numerics/error.ts';
import { syncDirectory } from '../host/sync-directory.ts';

/**
 * The file operations that jobs need. There are few of them, so that a test can interrupt the
 * program at each one. Each operation throws the errors that Node throws, with `code` and
 * `syscall`. All operations are synchronous, so the master serves no request while one is in
 * progress.
 */
export interface JobFiles {
  /**
   * Returns the names in a directory, in no particular order. Returns an empty list if the
   * directory does not exist.
   */
  names(directory: string): readonly string[];
  /** Returns a whole file as text; undefined if the file does not exist. */
  read(path: string): string | undefined;
  /** Makes a directory and all of its parents that do not exist. */
  makeDirectory(path: string): void;
  /**
   * Writes a file, or replaces the contents of an existing file, and syncs the contents to disk. If
   * the file is new, its name survives a loss of power only after a call of `syncDirectory`.
   */
  write(path: string, text: string): void;
  /**
   * Renames a file in one atomic step: a reader of `to` sees either the old file or the new file.
   */
  rename(from: string, to: string): void;
  /** Syncs the directory to disk, so that the names in it survive a loss of power. */
  syncDirectory(path: string): void;
  /** Appends text to a file, which is created if it does not exist. */
  append(path: string, text: string): void;
  /** Returns the size of a file, in bytes; 0 if the file does not exist. */
  size(path: string): number;
  /** Returns at most `bytesMax` bytes of an existing file, from byte `offset` on. */
  readAt(path: string, offset: number, bytesMax: number): Buffer;
  /** Truncates a file to its first `bytes` bytes. */
  truncate(path: string, bytes: number): void;
}

/**
 * Implementation of {@link JobFiles} with the file system of this machine. Files that these
 * operations create can be read only by their owner.
 */
export const nodeJobFiles: JobFiles = {
  names: (directory) => (existsSync(directory) ? readdirSync(directory) : []),
  read,
  makeDirectory: (path) => makeDirectory(path, 0o700),
  write,
  rename: renameSync,
  syncDirectory,
  append: (path, text) => appendFileSync(path, text, { mode: 0o600 }),
  size: (path) => (existsSync(path) ? statSync(path).size : 0),
  readAt,
  truncate: truncateSync,
};

/**
 * Maximum size, in bytes, of a file that `read` accepts. The largest summary of a job has less than
 * a tenth of this size.
 */
const readBytesMax = 2 ** 24;

function read(path: string): string | undefined {
  const file = readRegularFile(path, readBytesMax);
  if (file.kind === 'contents') return file.bytes.toString('utf8');
  if (file.kind === 'missing') return undefined;
  if (file.cause !== undefined) throw file.cause;
  throw new PodError('bad-data', `${path}: expected a file of a job, found ${file.found}`);
}

function write(path: string, text: string): void {
  const file = openSync(path, 'w', 0o600);
  try {
    writeAll(file, Buffer.from(text));
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}

function readAt(path: string, offset: number, bytesMax: number): Buffer {
  const file = openSync(path, 'r');
  try {
    return readFrom(file, offset, bytesMax);
  } finally {
    closeSync(file);
  }
}
