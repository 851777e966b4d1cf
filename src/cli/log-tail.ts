import { closeSync, readSync } from 'node:fs';
import { StringDecoder } from 'node:string_decoder';
import { type OpenedFile, openRegularFile } from '../files/read.ts';
import { PodError } from '../numerics/error.ts';

const pieceBytes = 65_536;

/** The lines of a log file that grows, from a byte of it on. It may not be there yet. */
export class LogTail {
  readonly #path: string;
  readonly #decoder = new StringDecoder('utf8');
  #offset: number;
  /** The beginning of a line whose end is not written yet. */
  #begun = '';

  constructor(path: string, offset = 0) {
    this.#path = path;
    this.#offset = offset;
  }

  /** The lines that were added since the last call, as long as whole ones are there. */
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

  /** A last line that was not brought to its end. */
  rest(): string {
    return this.#begun;
  }

  #read(file: number, piece: Buffer): number {
    const n = readSync(file, piece, 0, piece.length, this.#offset);
    this.#offset += n;
    return n;
  }
}

/** How many bytes a file has; 0 when it is not there. */
export function sizeOf(path: string): number {
  const log = openLog(path);
  if (log === undefined) return 0;
  closeSync(log.file);
  return log.stats.size;
}

/**
 * Opens a log for reading; undefined when it is not there.
 *
 * @throws PodError `io` when it cannot be opened, or is no regular file.
 */
export function openLog(path: string): OpenedFile | undefined {
  const opened = openRegularFile(path);
  if (opened.kind === 'opened') return opened;
  if (opened.kind === 'missing') return undefined;
  throw new PodError('io', `${path}: expected a log, found ${opened.found}`);
}
