import { isSystemError } from '../files/system-error.ts';
import { PodError } from '../numerics/error.ts';
import { LogText } from '../observe/log-text.ts';
import { LogTail, sizeOf } from './log-tail.ts';
import { screenOf } from './screen.ts';

/** Between two looks at a log that grows, in ms. */
const lookMs = 100;

/** Shows new lines of a master's log on standard output, in the form of `pod train`. */
export class FollowedLog {
  readonly #tail: LogTail;
  readonly #text: LogText = new LogText(screenOf(process.stdout), 'follower');
  readonly #timer: NodeJS.Timeout;

  /** Begins with what is added to the file at `path` from now on. */
  constructor(path: string) {
    this.#tail = new LogTail(path, sizeOf(path));
    this.#timer = setInterval(() => this.#look(), lookMs);
  }

  /** Ends the line that is being redrawn. Call it before something else is written to the terminal. */
  pause(): void {
    this.#text.end();
  }

  /** Shows what is left, when nothing is added any more. */
  close(): void {
    clearInterval(this.#timer);
    this.#look();
    this.#text.write(this.#tail.rest());
    this.#text.end();
  }

  /** A log that cannot be read any more is no reason to end a run. */
  #look(): void {
    try {
      for (const line of this.#tail.lines()) this.#text.write(line);
    } catch (error) {
      if (!isSystemError(error) && !(error instanceof PodError)) throw error;
      clearInterval(this.#timer);
      this.#text.end();
      process.stderr.write(`pod: its log is not shown any more: ${error.message}\n`);
    }
  }
}
