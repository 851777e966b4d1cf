import { endOfWholeLines } from '../../src/files/lines.ts';
import { jsonText } from '../../src/numerics/quote.ts';
import type { JobFiles } from './job-files.ts';
import { attempt } from './jobs.ts';

/** A part of a job's log: whole lines, each with one JSON object. */
export interface LogPiece {
  readonly text: string;
  /** Byte offset in the log at which the next part begins. */
  readonly next: number;
}

/** Maximum size, in bytes, of one part of a log, and of one line. */
export const pieceBytesMax: number = 2 ** 17;
/**
 * Maximum size, in bytes, of a job's log. When the log is full, further lines are dropped. This can
 * drop the last line of the log, the summary of the job; but the file `job.json` contains the
 * summary too.
 */
export const logBytesMax: number = 2 ** 28;

/** The log of a job: lines are only appended. A loss of power may lose the last lines. */
export class JobLog {
  readonly #path: string;
  readonly #files: JobFiles;
  #bytes = 0;

  constructor(path: string, files: JobFiles) {
    this.#path = path;
    this.#files = files;
  }

  /**
   * Must be called before `append`. If the last line of the log has no newline, a master was killed
   * while it wrote that line. `open` then removes the line.
   *
   * @throws PodError `io` when the log cannot be read or written.
   */
  open(): void {
    this.#attempt(() => {
      const size = this.#files.size(this.#path);
      const end = endOfWholeLines(size, (start, length) =>
        this.#files.readAt(this.#path, start, length),
      );
      if (end < size) this.#files.truncate(this.#path, end);
      this.#bytes = end;
    });
  }

  /**
   * Appends a line. If the line is longer than {@link pieceBytesMax}, a line that says so replaces
   * it. If the line would make the log larger than {@link logBytesMax}, the line `log-full`
   * replaces it, and all later lines are dropped. Throws PodError `io` when the log cannot be
   * written.
   */
  append(line: Readonly<Record<string, unknown>>): void {
    if (this.#bytes >= logBytesMax) return;
    const text = textOf(line);
    const bytes = Buffer.byteLength(text);
    const isFull = this.#bytes + bytes > logBytesMax;
    this.#attempt(() => this.#files.append(this.#path, isFull ? fullText : text));
    this.#bytes = isFull ? logBytesMax : this.#bytes + bytes;
  }

  /**
   * Returns the part of the log that begins at byte `offset`; empty at the end of the log. Throws
   * PodError `io` when the log cannot be read.
   */
  read(offset: number): LogPiece {
    return this.#attempt(() => {
      const size = this.#files.size(this.#path);
      if (offset >= size) return { text: '', next: size };
      const piece = this.#files.readAt(this.#path, offset, pieceBytesMax);
      const end = piece.lastIndexOf(10) + 1;
      // Every line that was written by `append` fits into a piece of {@link pieceBytesMax} bytes.
      // If a piece of this length has no newline, the file is damaged. The piece is then returned
      // as it is.
      const bytes = end === 0 && piece.length === pieceBytesMax ? piece.length : end;
      return { text: piece.toString('utf8', 0, bytes), next: offset + bytes };
    });
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
