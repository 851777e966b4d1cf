import { isSystemError } from '../files/system-error.ts';
import { PodError } from '../numerics/error.ts';
import { LogText } from '../observe/log-text.ts';
import { LogTail, sizeOf } from './log-tail.ts';
import { screenOf } from './screen.ts';

/** Time, in ms, between two checks of a log for new lines. */
const lookMs = 100;

/**
 * Shows new lines of a master's log on standard output, in the form in which `pod train` shows a
 * run.
 */
export class FollowedLog {
  readonly #tail: LogTail;
  readonly #text: LogText = new LogText(screenOf(process.stdout), 'follower');
  readonly #timer: NodeJS.Timeout;

  /** Shows lines that are added to the file at `path` after this call. */
  constructor(path: string) {
    this.#tail = new LogTail(path, sizeOf(path));
    this.#timer = setInterval(() => this.#look(), lookMs);
  }

  /**
   * Ends the line of the terminal that is redrawn in place. Call before other output to the
   * terminal.
   */
  pause(): void {
    this.#text.end();
  }

  /**
   * Shows the lines that are not shown yet and stops following the log. Call when the master no
   * longer writes to the log.
   */
  close(): void {
    clearInterval(this.#timer);
    this.#look();
    this.#text.write(this.#tail.rest());
    this.#text.end();
  }

  /**
   * Shows the new lines of the log. If the log cannot be read, prints a warning and stops following
   * the log; the run itself continues.
   */
  #look(): void {
    try {
      for (const line of this.#tail.lines()) this.#text.write(line);
    } catch (error) {
      if (!isSystemError(error) && !(error instanceof PodError)) throw error;
      clearInterval(this.#timer);
      this.#text.end();
      process.stderr.write(
        `pod: the log of the master cannot be shown any further: ${error.message}; the run continues\n`,
      );
    }
  }
}
