import { jsonText } from '../../src/numerics/quote.ts';
import type { JobFiles } from './job-files.ts';
import { attempt } from './jobs.ts';

/** A part of a job's log: whole lines, each of them JSON. */
export interface LogPiece {
  readonly text: string;
  /** In bytes: where the part after it begins. */
  readonly next: number;
}

/** The most bytes of one part. A line is never longer. */
export const pieceBytesMax: number = 2 ** 17;
/** The most bytes of a whole log: more is not written. A job's summary is kept elsewhere too. */
export const logBytesMax: number = 2 ** 28;

/** The log of a job: lines are only added. It may lose its last lines when the power does. */
export class JobLog {
  readonly #path: string;
  readonly #files: JobFiles;
  #bytes = 0;

  constructor(path: string, files: JobFiles) {
    this.#path = path;
    this.#files = files;
  }

  /**
   * Cuts off a last line that a master which was killed left unfinished; then lines can be added.
   *
   * @throws PodError `io` when it cannot be read or written.
   */
  open(): void {
    this.#attempt(() => {
      const size = this.#files.size(this.#path);
      let end = size;
      for (let piece = this.#before(end); piece.length > 0; piece = this.#before(end)) {
        const newline = piece.lastIndexOf(10);
        end -= piece.length - (newline + 1);
        if (newline >= 0) break;
      }
      if (end < size) this.#files.truncate(this.#path, end);
      this.#bytes = end;
    });
  }

  /** Adds a line, as long as there is room. Throws `io` when the disk does not take it. */
  append(line: Readonly<Record<string, unknown>>): void {
    if (this.#bytes >= logBytesMax) return;
    const text = textOf(line);
    const bytes = Buffer.byteLength(text);
    const isFull = this.#bytes + bytes > logBytesMax;
    this.#attempt(() => this.#files.append(this.#path, isFull ? fullText : text));
    this.#bytes = isFull ? logBytesMax : this.#bytes + bytes;
  }

  /** The part that begins at byte `offset`; empty at the end. Throws `io` when it cannot be read. */
  read(offset: number): LogPiece {
    return this.#attempt(() => {
      const size = this.#files.size(this.#path);
      if (offset >= size) return { text: '', next: size };
      const piece = this.#files.readAt(this.#path, offset, pieceBytesMax);
      const end = piece.lastIndexOf(10) + 1;
      // No line of ours is that long: what is there is damaged, and is passed on as it is.
      const bytes = end === 0 && piece.length === pieceBytesMax ? piece.length : end;
      return { text: piece.toString('utf8', 0, bytes), next: offset + bytes };
    });
  }

  /** The last bytes before `end`. */
  #before(end: number): Buffer {
    const start = Math.max(0, end - pieceBytesMax);
    return end === 0 ? Buffer.alloc(0) : this.#files.readAt(this.#path, start, end - start);
  }

  #attempt<T>(work: () => T): T {
    return attempt(`log ${this.#path}`, work);
  }
}

const fullText = `${JSON.stringify({ level: 40, msg: 'log-full', bytes: logBytesMax })}\n`;

function textOf(line: Readonly<Record<string, unknown>>): string {
  const text = `${jsonText(line)}\n`;
  const bytes = Buffer.byteLength(text);
  if (bytes <= pieceBytesMax) return text;
  return `${JSON.stringify({ time: line['time'], level: 40, msg: 'line-too-long', bytes })}\n`;
}
