import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { StringDecoder } from 'node:string_decoder';

const pieceBytes = 65_536;

/** The lines of a log file that grows, from a byte of it on. It may not be there yet. */
export class LogTail {
  readonly #path: string;
  readonly #decoder = new StringDecoder('utf8');
  #offset: number;
  /** Of a line whose end is not written yet. */
  #begun = '';

  constructor(path: string, offset = 0) {
    this.#path = path;
    this.#offset = offset;
  }

  /** The lines that were added since the last call, as long as whole ones are there. */
  *lines(): Generator<string> {
    const file = openIfThere(this.#path);
    if (file === undefined) return;
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
  const file = openIfThere(path);
  if (file === undefined) return 0;
  try {
    return fstatSync(file).size;
  } finally {
    closeSync(file);
  }
}

function openIfThere(path: string): number | undefined {
  try {
    return openSync(path, 'r');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}
