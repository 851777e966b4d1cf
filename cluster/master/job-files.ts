import {
  appendFileSync,
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readSync,
  renameSync,
  statSync,
  truncateSync,
  writeSync,
} from 'node:fs';
import { readRegularFile } from '../../src/files/read.ts';
import { PodError } from '../../src/numerics/error.ts';
import { syncDirectory } from '../host/sync-directory.ts';

/**
 * The part of a file system that jobs need: small, so that tests can stop it at every operation.
 * All throw what Node throws, an error with `code` and `syscall`. Nothing waits: what has returned
 * has happened, before anybody else is served.
 */
export interface JobFiles {
  /** Names in a directory, in no order; none when it is not there. */
  names(directory: string): readonly string[];
  /** All of a file as text; undefined when it is not there. */
  read(path: string): string | undefined;
  /** Makes a directory and those above it, unless they are there. */
  makeDirectory(path: string): void;
  /** Writes a file anew; its bytes outlast a loss of power, its name may not yet. */
  write(path: string, text: string): void;
  /** In one motion: whoever looks sees the old file or the new one. */
  rename(from: string, to: string): void;
  /** What the directory lists outlasts a loss of power. */
  syncDirectory(path: string): void;
  /** Adds to the end of a file, which is made where it is missing. */
  append(path: string, text: string): void;
  /** Bytes of a file; 0 when it is not there. */
  size(path: string): number;
  /** At most `bytesMax` bytes of a file that is there, from byte `offset` on. */
  readAt(path: string, offset: number, bytesMax: number): Buffer;
  /** Cuts a file to its first `bytes` bytes. */
  truncate(path: string, bytes: number): void;
}

/** The files of this machine. Only their owner can read what is made. */
export const nodeJobFiles: JobFiles = {
  names: (directory) => (existsSync(directory) ? readdirSync(directory) : []),
  read,
  makeDirectory: (path) => void mkdirSync(path, { recursive: true, mode: 0o700 }),
  write,
  rename: renameSync,
  syncDirectory,
  append: (path, text) => appendFileSync(path, text, { mode: 0o600 }),
  size: (path) => (existsSync(path) ? statSync(path).size : 0),
  readAt,
  truncate: truncateSync,
};

/** The summary of the largest pod takes less than a tenth of it. */
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
    const bytes = Buffer.from(text);
    for (let start = 0; start < bytes.length; ) start += writeSync(file, bytes, start);
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}

function readAt(path: string, offset: number, bytesMax: number): Buffer {
  const file = openSync(path, 'r');
  try {
    const piece = Buffer.alloc(bytesMax);
    return piece.subarray(0, readSync(file, piece, 0, bytesMax, offset));
  } finally {
    closeSync(file);
  }
}
