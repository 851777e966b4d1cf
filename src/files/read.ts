import { closeSync, constants, fstatSync, openSync, readSync, type Stats } from 'node:fs';
import { isSystemError } from './system-error.ts';

/**
 * Outcome of reading a file: the contents of the file, or the reason why it cannot be read. The
 * reason, `found`, is the last part of a message such as "expected a file, found a folder".
 */
export type FileContents =
  | { readonly kind: 'contents'; readonly bytes: Buffer; readonly mode: number }
  | { readonly kind: 'missing'; readonly found: string }
  | { readonly kind: 'refused'; readonly found: string; readonly cause?: unknown };

/** Largest number of bytes in one read call. Node cannot read 2 GiB or more in one call. */
const readBytesMax = 2 ** 26;

/** A regular file that is open for reading. The caller closes it. */
export interface OpenedFile {
  readonly kind: 'opened';
  readonly file: number;
  readonly stats: Stats;
}

/** Reason why a file cannot be opened or read: the file does not exist, or it is refused. */
export type NoFile = Exclude<FileContents, { readonly kind: 'contents' }>;

/**
 * Opens a regular file for reading. Refuses a pipe, a device, a socket or a folder before a byte is
 * read, because a read could wait for a writer or never reach an end. Errors of the file system are
 * returned, not thrown.
 */
export function openRegularFile(path: string): OpenedFile | NoFile {
  try {
    // Without O_NONBLOCK, opening a pipe waits for its writer.
    const file = openSync(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0));
    const stats = fstatSync(file);
    if (stats.isFile()) return { kind: 'opened', file, stats };
    closeSync(file);
    return { kind: 'refused', found: describeKind(stats) };
  } catch (error) {
    return noFile(error);
  }
}

/**
 * Reads a whole regular file. Refuses a file of more than `bytesMax` bytes. Errors of the file
 * system are returned, not thrown.
 */
export function readRegularFile(path: string, bytesMax: number): FileContents {
  const opened = openRegularFile(path);
  if (opened.kind !== 'opened') return opened;
  try {
    return readOpened(opened, bytesMax);
  } catch (error) {
    return noFile(error);
  } finally {
    closeSync(opened.file);
  }
}

/**
 * Returns the last lines of an open file, without empty lines. A line is returned only if all its
 * bytes are among the last `bytesMax` bytes of the file and none is before byte `from`. Byte `from`
 * must be the start of a line. The last line need not end with a newline.
 */
export function lastLines(
  { file, stats: { size } }: OpenedFile,
  bytesMax: number,
  from = 0,
): string[] {
  const start = Math.max(from, size - bytesMax);
  if (start >= size) return [];
  const text = readAt(file, start, size - start).toString('utf8');
  // The first byte that was read may be in the middle of a line. Then this line is left out.
  const whole = start === from ? text : text.slice(text.indexOf('\n') + 1);
  return whole.split('\n').filter((line) => line !== '');
}

/** Reads at most `bytesMax` bytes of an open file, from byte `start` on. Throws system errors. */
export function readAt(file: number, start: number, bytesMax: number): Buffer {
  const piece = Buffer.alloc(bytesMax);
  return piece.subarray(0, readSync(file, piece, 0, bytesMax, start));
}

function noFile(error: unknown): NoFile {
  if (!isSystemError(error)) throw error;
  if (error.code === 'ENOENT' || error.code === 'ENOTDIR') {
    return { kind: 'missing', found: 'nothing there' };
  }
  return { kind: 'refused', found: error.message, cause: error };
}

/**
 * Largest file that {@link readSmallText} reads, in bytes. Files that a pod writes for itself are
 * far smaller.
 */
const smallBytesMax = 2 ** 20;

/**
 * Returns the text of a regular file. Returns undefined if the file cannot be read or has more than
 * 1 MiB. Meant for files that a pod writes for itself and that may be missing. For a file below
 * `/proc`, returns an empty text, because the system reports the size 0 for such files.
 */
export function readSmallText(path: string): string | undefined {
  const file = readRegularFile(path, smallBytesMax);
  return file.kind === 'contents' ? file.bytes.toString('utf8') : undefined;
}

/** Describes the kind of a file for messages, with an article: `a folder`, `a pipe`. */
export function describeKind(stats: Stats): string {
  if (stats.isFile()) return 'a regular file';
  if (stats.isDirectory()) return 'a folder';
  if (stats.isFIFO()) return 'a pipe';
  if (stats.isCharacterDevice() || stats.isBlockDevice()) return 'a device';
  return stats.isSocket() ? 'a socket' : 'something else';
}

function readOpened({ file, stats: { size, mode } }: OpenedFile, bytesMax: number): FileContents {
  if (size > bytesMax) return { kind: 'refused', found: `${size} bytes, more than ${bytesMax}` };
  const bytes = Buffer.alloc(size);
  let end = 0;
  while (end < bytes.length) {
    const count = readSync(file, bytes, end, Math.min(readBytesMax, bytes.length - end), end);
    if (count === 0) break;
    end += count;
  }
  return { kind: 'contents', bytes: bytes.subarray(0, end), mode };
}
