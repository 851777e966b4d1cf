import { closeSync, constants, fstatSync, openSync, readSync, type Stats } from 'node:fs';
import { isSystemError } from './system-error.ts';

/** What reading a file gave: its contents, or the reason in words that end a sentence "found …". */
export type FileContents =
  | { readonly kind: 'contents'; readonly bytes: Buffer; readonly mode: number }
  | { readonly kind: 'missing'; readonly found: string }
  | { readonly kind: 'refused'; readonly found: string; readonly cause?: unknown };

/** One read takes at most this many bytes: Node reads less than 2 GiB at a time. */
const readBytesMax = 2 ** 26;

/**
 * Reads a regular file of at most `bytesMax` bytes.
 *
 * A pipe, a device, a socket or a folder is refused before a byte is read, so that nothing waits for
 * a writer and nothing endless is read. Never throws for what the file system says.
 */
export function readRegularFile(path: string, bytesMax: number): FileContents {
  try {
    // Without O_NONBLOCK, opening a pipe waits for its writer.
    const file = openSync(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0));
    try {
      return readOpened(file, bytesMax);
    } finally {
      closeSync(file);
    }
  } catch (error) {
    if (!isSystemError(error)) throw error;
    if (error.code === 'ENOENT' || error.code === 'ENOTDIR') {
      return { kind: 'missing', found: 'nothing there' };
    }
    return { kind: 'refused', found: error.message, cause: error };
  }
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

function readOpened(file: number, bytesMax: number): FileContents {
  const stats = fstatSync(file);
  if (!stats.isFile()) return { kind: 'refused', found: describeKind(stats) };
  if (stats.size > bytesMax) {
    return { kind: 'refused', found: `${stats.size} bytes, more than ${bytesMax}` };
  }
  const bytes = Buffer.alloc(stats.size);
  let end = 0;
  while (end < bytes.length) {
    const count = readSync(file, bytes, end, Math.min(readBytesMax, bytes.length - end), end);
    if (count === 0) break;
    end += count;
  }
  return { kind: 'contents', bytes: bytes.subarray(0, end), mode: stats.mode };
}
