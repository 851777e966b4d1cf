import {
  chmodSync,
  closeSync,
  constants,
  fsyncSync,
  openSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { targetOf } from './target.ts';

/** From now on a file that reaches the limit of `ulimit -f` fails like a full disk, instead of ending the process. */
export function outliveFileLimit(): void {
  process.on('SIGXFSZ', () => {});
}

/** How often a reader that takes nothing is tried again, and after how many ms: for 10 s. */
const triesMax = 2000;
const tryMs = 5;

/**
 * Writes an output to its target, whatever that is. A regular file is replaced whole or not at all,
 * and keeps its mode; links to it stay. A device, a pipe or an open descriptor is written to.
 * `opened` is its descriptor if it has been opened before.
 *
 * @throws an error of the system, or one that says what is in the place of the file.
 */
export function writeOutput(path: string, bytes: Uint8Array, opened?: number): void {
  if (opened !== undefined) {
    writeAll(opened, bytes);
    return;
  }
  const target = targetOf(path);
  switch (target.kind) {
    case 'refused':
      throw new Error(`expected ${target.expected}, found ${target.found}`);
    case 'descriptor':
      writeAll(target.descriptor, bytes);
      return;
    case 'stream':
      writeStream(target.path, bytes);
      return;
    case 'file':
      replace(target.path, bytes, target.stats?.mode);
  }
}

/**
 * Opens a device or a pipe for writing. Never waits: a pipe that nobody reads is an error, `ENXIO`.
 */
export function openStream(path: string): number {
  return openSync(path, constants.O_WRONLY | constants.O_APPEND | (constants.O_NONBLOCK ?? 0));
}

/** Why a pipe or a device could not be opened with {@link openStream}, in words. */
export function openingTrouble({ code, message, path }: NodeJS.ErrnoException): string {
  const isPipe = path !== undefined && statSync(path, { throwIfNoEntry: false })?.isFIFO();
  return code === 'ENXIO' && isPipe ? 'nobody reads the pipe' : message;
}

function writeStream(path: string, bytes: Uint8Array): void {
  const file = openStream(path);
  try {
    writeAll(file, bytes);
  } finally {
    closeSync(file);
  }
}

/** Errors of a rename after which writing in place may still work: a file that is a mount point, say. */
const keepsPlace: readonly unknown[] = ['EACCES', 'EPERM', 'EROFS', 'EBUSY', 'EXDEV'];

function replace(path: string, bytes: Uint8Array, mode: number | undefined): void {
  try {
    replaceByRename(path, bytes, mode);
  } catch (error) {
    if (!keepsPlace.includes((error as NodeJS.ErrnoException).code)) throw error;
    writeFileSync(path, bytes);
  }
}

/** Path of the draft that is written beside a file before it takes its place; the `count`-th of this process. */
export function draftBeside(path: string, count = 0): string {
  return join(dirname(path), `.${basename(path).slice(0, 60)}.${process.pid}.${count}.partial`);
}

function replaceByRename(path: string, bytes: Uint8Array, mode: number | undefined): void {
  const draft = draftBeside(path);
  const file = openSync(draft, 'w', 0o666);
  try {
    try {
      writeAll(file, bytes);
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
    if (mode !== undefined) chmodSync(draft, mode & 0o7777);
    renameSync(draft, path);
  } catch (error) {
    rmSync(draft, { force: true });
    throw error;
  }
}

/** Writes all bytes. A reader that takes none for a while is an error, `EAGAIN`. */
function writeAll(file: number, bytes: Uint8Array): void {
  for (let at = 0, tries = 0; at < bytes.length; ) {
    try {
      at += writeSync(file, bytes, at);
      tries = 0;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN' || ++tries > triesMax) throw error;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, tryMs);
    }
  }
}
