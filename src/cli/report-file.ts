import { closeSync, constants, fstatSync, openSync, rmSync } from 'node:fs';
import { lockOpened, requireUnlocked } from '../../cluster/host/lock.ts';
import type { Report } from '../experiment/event.ts';
import { isAt, targetOf } from '../files/target.ts';
import { openingTrouble, openStream, writeOutput } from '../files/write.ts';
import { messageOf, PodError } from '../numerics/error.ts';

/**
 * The file of `--report`, or of another flag. {@link begin} locks the file for this run if it is a
 * regular file. If the file does not exist, `begin` creates an empty file (the placeholder), which
 * the report later replaces.
 */
export class ReportFile {
  readonly #path: string;
  readonly #flag: string;
  /**
   * Descriptor of a pipe or a device; undefined for a regular file. A pipe is opened before the
   * run, in the constructor, so that a pipe without a reader is refused at once.
   */
  readonly #opened: number | undefined;
  /** Path of the regular file, without symbolic links; undefined for a pipe or a device. */
  readonly #place: string | undefined;
  #locked: number | undefined;
  #isPlaceholder = false;
  readonly #close = (): void => this.close();
  #lost: string | undefined;
  /** Reason why the file could not be opened when it was to be locked. */
  #trouble: unknown;

  /**
   * Opens a pipe or a device, and checks that no other run has locked a regular file. Changes
   * nothing on disk. `flag` names the file in messages.
   *
   * @throws PodError `in-use` if another run has locked the file, `io` if a pipe or a device cannot
   * be opened.
   */
  constructor(path: string, flag = '--report') {
    this.#path = path;
    this.#flag = flag;
    const target = targetOf(path);
    if (target.kind === 'stream') this.#opened = this.#openStream(target.path);
    if (target.kind === 'file') {
      this.#place = target.path;
      requireUnlocked(target.path, this.#name);
    }
  }

  /** Reason why the report could not be written; undefined if there was no failure. */
  get lost(): string | undefined {
    return this.#lost;
  }

  /**
   * Locks the file for this run. Does nothing if the file cannot be opened: `write` fails later for
   * the same reason, and {@link lost} then returns the reason.
   *
   * @throws PodError `in-use` if another run has locked the file.
   */
  begin(): void {
    if (this.#place === undefined || this.#locked !== undefined) return;
    this.#locked = this.#lock(this.#place);
    process.once('exit', this.#close);
  }

  /**
   * Locks the file as {@link begin} does, for a command whose whole result is in the file.
   *
   * @throws PodError `in-use` if another run has locked the file, `bad-flag` if the file cannot be
   * opened.
   */
  take(): void {
    this.begin();
    if (this.#place === undefined || this.#locked !== undefined) return;
    const found = messageOf(this.#trouble);
    const message = `${this.#name}: expected a file that can be written, found ${found}`;
    throw new PodError('bad-flag', message, this.#trouble);
  }

  write(text: string): void {
    try {
      writeOutput(this.#path, Buffer.from(text), this.#opened);
    } catch (error) {
      this.#lost = `${this.#name}: could not be written: ${(error as Error).message}`;
    }
  }

  /** Releases the lock. Removes the placeholder if the run has not written its report. */
  close(): void {
    if (this.#locked === undefined || this.#place === undefined) return;
    const isEmpty = fstatSync(this.#locked).size === 0;
    if (this.#isPlaceholder && isEmpty && isAt(this.#place, this.#locked)) rmSync(this.#place);
    closeSync(this.#locked);
    this.#locked = undefined;
    process.off('exit', this.#close);
  }

  get #name(): string {
    return `${this.#flag} ${this.#path}`;
  }

  #openStream(path: string): number {
    try {
      return openStream(path);
    } catch (cause) {
      const why = openingTrouble(cause as Error);
      throw new PodError('io', `${this.#name}: could not be opened: ${why}`, cause);
    }
  }

  /**
   * Opens and locks the file; returns undefined if the file cannot be opened. If another run
   * replaces the file between opening and locking, opens and locks the new file instead.
   */
  #lock(place: string): number | undefined {
    for (;;) {
      const file = this.#open(place);
      if (file === undefined) return undefined;
      try {
        lockOpened(file, this.#name);
        if (isAt(place, file)) return file;
      } catch (error) {
        closeSync(file);
        throw error;
      }
      closeSync(file);
    }
  }

  #open(place: string): number | undefined {
    const { O_WRONLY, O_CREAT, O_EXCL } = constants;
    this.#isPlaceholder = false;
    const found = this.#opens(place, O_WRONLY);
    if (found !== undefined) return found;
    const made = this.#opens(place, O_WRONLY | O_CREAT | O_EXCL);
    this.#isPlaceholder = made !== undefined;
    return made;
  }

  /** Opens a file; returns undefined and keeps the reason if the file cannot be opened. */
  #opens(place: string, flags: number): number | undefined {
    try {
      return openSync(place, flags, 0o666);
    } catch (error) {
      this.#trouble = error;
      return undefined;
    }
  }
}

/** Returns the text of a report, as `--report` and `--json` write it. */
export function reportText(report: Report): string {
  return `${JSON.stringify(report, undefined, 2)}\n`;
}
