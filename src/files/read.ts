import { closeSync, constants, fstatSync, openSync, readSync, type Stats } from 'node:fs';
import { isSystemError } from './system-error.ts';

/** What reading a file gave: its contents, or the reason in words that end a sentence "found …". */
export type FileContents =
  | { readonly kind: 'contents'; readonly bytes: Buffer; readonly mode: number }
  | { readonly kind: 'missing'; readonly found: string }
  | { readonly kind: 'refused'; readonly found: string; readonly cause?: unknown };

/** One read takes at most this many bytes: Node reads less than 2 GiB at a time. */
const readBytesMax = 2 ** 26;

/** A regular file that is open for reading. The caller closes it. */
export interface OpenedFile {
  readonly kind: 'opened';
  readonly file: number;
  readonly stats: Stats;
}

/** Why there is no file to read. */
export type NoFile = Exclude<FileContents, { readonly kind: 'contents' }>;

/**
 * Opens a regular file for reading.
 *
 * A pipe, a device, a socket or a folder is refused before a byte is read, so that nothing waits for
 * a writer and nothing endless is read. Never throws for what the file system says.
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

/** Reads a regular file of at most `bytesMax` bytes, opened as by {@link openRegularFile}. */
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
 * The whole lines at the end of an open file: those of its last `bytesMax` bytes, from byte `from` on.
 * A last line without an end is one of them.
 */
export function lastLines(
  { file, stats: { size } }: OpenedFile,
  bytesMax: number,
  from = 0,
): string[] {
  const start = Math.max(from, size - bytesMax);
  if (start >= size) return [];
  const piece = Buffer.alloc(size - start);
  const text = piece.toString('utf8', 0, readSync(file, piece, 0, piece.length, start));
  // The rest of a line that began before is left out.
  const whole = start === from ? text : text.slice(text.indexOf('\n') + 1);
  return whole.split('\n').filter((line) => line !== '');
}

function noFile(error: unknown): NoFile {
  if (!isSystemError(error)) throw error;
  if (error.code === 'ENOENT' || error.code === 'ENOTDIR') {
    return { kind: 'missing', found: 'nothing there' };
  }
  return { kind: 'refused', found: error.message, cause: error };
}

/** Files that a pod writes for itself are far smaller. */
const smallBytesMax = 2 ** 20;

/**
 * The text of a regular file of at most 1 MiB; undefined when there is none that can be read. For
 * files that a pod writes for itself and can do without. Not for those below `/proc`: their size is 0.
 */
export function readSmallText(path: string): string | undefined {
  const file = readRegularFile(path, smallBytesMax);
  return file.kind === 'contents' ? file.bytes.toString('utf8') : undefined;
}

/** What a path that is not a regular file is, with its article. */
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
