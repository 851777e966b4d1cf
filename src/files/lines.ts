import { readSync } from 'node:fs';
import type { OpenedFile } from './read.ts';

/** Number of bytes that are read from a file at once. */
const chunkBytes = 2 ** 16;
const newline = 0x0a;

/**
 * Yields the lines of an open file, without their newlines. A last line that has no newline is left
 * out, because its writer has not finished it. Throws the errors of the file system.
 */
export function* wholeLines({ file }: Pick<OpenedFile, 'file'>): Generator<string> {
  const chunk = Buffer.alloc(chunkBytes);
  const pieces: Buffer[] = [];
  for (let position = 0; ; ) {
    const count = readSync(file, chunk, 0, chunkBytes, position);
    if (count === 0) return;
    position += count;
    let start = 0;
    for (let end = endOfLine(chunk, start, count); end >= 0; end = endOfLine(chunk, start, count)) {
      pieces.push(chunk.subarray(start, end));
      yield Buffer.concat(pieces.splice(0)).toString('utf8');
      start = end + 1;
    }
    // The bytes after the last newline begin a line that a later read completes. They are copied,
    // because the next read overwrites `chunk`.
    pieces.push(Buffer.from(chunk.subarray(start, count)));
  }
}

/**
 * Returns how many bytes of a file come before the end of its last newline; 0 if the file has no
 * newline. The file has `size` bytes. `readAt` returns `length` bytes of the file from byte `start`
 * on.
 */
export function endOfWholeLines(
  size: number,
  readAt: (start: number, length: number) => Buffer,
): number {
  for (let end = size; end > 0; end = Math.max(0, end - chunkBytes)) {
    const start = Math.max(0, end - chunkBytes);
    const found = readAt(start, end - start).lastIndexOf(newline);
    if (found >= 0) return start + found + 1;
  }
  return 0;
}

/** Returns the index of the first newline in a range of `bytes`; -1 if there is none. */
function endOfLine(bytes: Buffer, start: number, end: number): number {
  const found = bytes.indexOf(newline, start);
  return found < end ? found : -1;
}
