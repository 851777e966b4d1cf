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

/**
 * Lets this process survive a write beyond the limit of `ulimit -f`. The write then fails with an
 * error, as on a full disk. Without this handler, the signal SIGXFSZ would end the process.
 */
export function outliveFileLimit(): void {
  process.on('SIGXFSZ', () => {});
}

/**
 * A write to a pipe fails while the pipe is full, that is, while its reader takes no bytes. The
 * write is then repeated every `tryMs` ms, at most `triesMax` times. Together, these tries take 10
 * s.
 */
const triesMax = 2000;
const tryMs = 5;

/**
 * Writes `bytes` to the output at `path`. If the output is open already, `opened` is its
 * descriptor, and `path` is not used.
 *
 * A regular file is replaced as a whole or not at all. The new file has the mode of the old one.
 * Symbolic links to the file stay. Some files can be written but not replaced, for example a mount
 * point; such a file is overwritten in place. A device, a pipe or a descriptor receives the bytes
 * directly.
 *
 * @throws an error of the system, or an Error that says what was found at the path.
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
 * Opens a device or a pipe for writing, without waiting for a reader. Throws the system error
 * `ENXIO` for a pipe that nobody reads.
 */
export function openStream(path: string): number {
  return openSync(path, constants.O_WRONLY | constants.O_APPEND | (constants.O_NONBLOCK ?? 0));
}

/** Describes in words why {@link openStream} failed. */
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

/**
 * Error codes with which the replacement of a file fails if only the replacement is impossible, for
 * example because the file is a mount point. Then this program tries to overwrite the file in
 * place.
 */
const keepsPlace: readonly unknown[] = ['EACCES', 'EPERM', 'EROFS', 'EBUSY', 'EXDEV'];

function replace(path: string, bytes: Uint8Array, mode: number | undefined): void {
  try {
    replaceByRename(path, bytes, mode);
  } catch (error) {
    if (!keepsPlace.includes((error as NodeJS.ErrnoException).code)) throw error;
    writeFileSync(path, bytes);
  }
}

/**
 * Returns the path of a draft: a temporary file that is renamed to `path` when it is complete. The
 * draft is in the folder of `path`. If one process has several drafts for `path`, `count`
 * distinguishes them.
 */
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

/** Writes all bytes. If a reader takes no byte for 10 s, throws the system error `EAGAIN`. */
export function writeAll(file: number, bytes: Uint8Array): void {
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
