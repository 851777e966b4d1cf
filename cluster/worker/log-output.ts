import { writeSync } from 'node:fs';
import { oneLine } from '../../src/numerics/quote.ts';

/** Writes some of the bytes, at least one, and says how many; throws what Node throws. */
export type WriteBytes = (bytes: Uint8Array) => number;

/** How often one line is tried again where nobody reads it fast enough, and after how many ms. */
const triesMax = 200;
const tryMs = 5;

/**
 * Standard output, for the lines of a logger. A line that it does not take, since the disk is full or
 * nobody reads any more, is left out, and once it takes lines again it is told how many there were:
 * a process goes on without its log. (The logger's own output waits for room for ever.)
 */
export class LogOutput {
  readonly #writeBytes: WriteBytes;
  #lost = 0;
  /** Whether a line was cut off: the next one must not begin in it. */
  #isCut = false;

  constructor(writeBytes: WriteBytes = (bytes) => writeSync(1, bytes)) {
    this.#writeBytes = writeBytes;
  }

  /** Lines that were left out so far and have not been told of. */
  get lost(): number {
    return this.#lost;
  }

  /** `line` with its newline. */
  write(line: string): void {
    const news = this.#lost === 0 ? '' : lostLine(this.#lost);
    const text = `${this.#isCut ? '\n' : ''}${news}${printable(line)}`;
    if (this.#put(Buffer.from(text))) this.#lost = 0;
    else this.#lost++;
  }

  #put(bytes: Buffer): boolean {
    let at = 0;
    for (let tries = 0; at < bytes.length; ) {
      try {
        at += this.#writeBytes(bytes.subarray(at));
      } catch (error) {
        const mayPass = (error as NodeJS.ErrnoException).code === 'EAGAIN' && tries < triesMax;
        if (!mayPass) {
          this.#isCut ||= at > 0;
          return false;
        }
        tries++;
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, tryMs);
      }
    }
    this.#isCut = false;
    return true;
  }
}

/**
 * JSON escapes only some of the characters that a terminal obeys, and its texts may have any length:
 * the last place at which both are put right, whatever a line quotes.
 */
function printable(line: string): string {
  const short = line.length > lineLengthMax ? shortened(line) : line;
  return short.replace(obeyed, (it) => `\\u${it.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

/** Longer lines have their texts shortened; stacks of our own mistakes are shorter. */
const lineLengthMax = 16_384;
/** Controls that JSON leaves, changes of direction, separators of lines [Unicode, Bidi_Control]. */
const obeyed = /[\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/g;

function shortened(line: string): string {
  const shorter = (_: string, value: unknown): unknown =>
    typeof value === 'string' ? oneLine(value) : value;
  return `${JSON.stringify(JSON.parse(line), shorter)}\n`;
}

function lostLine(count: number): string {
  const line = { level: 40, time: Date.now(), count, msg: 'log-lines-lost' };
  return `${JSON.stringify(line)}\n`;
}
