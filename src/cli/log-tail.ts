import { closeSync, readSync } from 'node:fs';
import { StringDecoder } from 'node:string_decoder';
import { type OpenedFile, openRegularFile } from '../files/read.ts';
import { PodError } from '../numerics/error.ts';

const pieceBytes = 65_536;

/**
 * Reads the lines of a log file while it grows, starting at byte `offset`. The file need not exist
 * yet.
 */
export class LogTail {
  readonly #path: string;
  readonly #decoder = new StringDecoder('utf8');
  #offset: number;
  /** Start of a line that is not complete yet: the text after the last newline. */
  #begun = '';

  constructor(path: string, offset = 0) {
    this.#path = path;
    this.#offset = offset;
  }

  /** Yields the complete lines that were added since the last call. */
  *lines(): Generator<string> {
    const log = openLog(this.#path);
    if (log === undefined) return;
    const { file } = log;
    try {
      const piece = Buffer.alloc(pieceBytes);
      for (let n = this.#read(file, piece); n > 0; n = this.#read(file, piece)) {
        const lines = (this.#begun + this.#decoder.write(piece.subarray(0, n))).split('\n');
        this.#begun = lines.pop() ?? '';
        yield* lines;
      }
    } finally {
      closeSync(file);
    }
  }

  /** Returns the last line if it has no newline yet, otherwise an empty text. */
  rest(): string {
    return this.#begun;
  }

  #read(file: number, piece: Buffer): number {
    const n = readSync(file, piece, 0, piece.length, this.#offset);
    this.#offset += n;
    return n;
  }
}

/** Returns the size of a log in bytes; 0 if the log does not exist. */
export function sizeOf(path: string): number {
  const log = openLog(path);
  if (log === undefined) return 0;
  closeSync(log.file);
  return log.stats.size;
}

/**
 * Opens a log for reading; returns undefined if the log does not exist.
 *
 * @throws PodError `io` if the log cannot be opened or is not a regular file.
 */
export function openLog(path: string): OpenedFile | undefined {
  const opened = openRegularFile(path);
  if (opened.kind === 'opened') return opened;
  if (opened.kind === 'missing') return undefined;
  throw new PodError('io', `${path}: expected a log, found ${opened.found}`);
}
