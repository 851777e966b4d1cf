import { closeSync, constants, fstatSync, openSync, rmSync, statSync } from 'node:fs';
import { lockOpened, refuseTaken } from '../../cluster/host/lock.ts';
import { targetOf } from '../files/target.ts';
import { openingTrouble, openStream, writeOutput } from '../files/write.ts';
import { PodError } from '../numerics/error.ts';

/**
 * The file of `--report`. A regular file is locked for one run at a time from {@link begin} on. Where it is
 * not there yet, an empty file keeps its place until the report replaces it.
 */
export class ReportFile {
  readonly #path: string;
  /** A pipe or a device is opened before the run: whether somebody reads a pipe is known then. */
  readonly #opened: number | undefined;
  /** Where a regular file is, or will be, without links. */
  readonly #place: string | undefined;
  #locked: number | undefined;
  #isPlaceholder = false;
  #lost: string | undefined;

  /**
   * Changes nothing on disk.
   *
   * @throws PodError `in-use` when another run has the file, `io` when a pipe or a device cannot be opened.
   */
  constructor(path: string) {
    this.#path = path;
    const target = targetOf(path);
    if (target.kind === 'stream') this.#opened = this.#openStream(target.path);
    if (target.kind === 'file') {
      this.#place = target.path;
      refuseTaken(target.path, this.#name);
    }
  }

  /** Why the report could not be written; undefined when it was. */
  get lost(): string | undefined {
    return this.#lost;
  }

  /** Takes the file for this run. Throws PodError `in-use`. A file that cannot be opened is not locked. */
  begin(): void {
    if (this.#place === undefined || this.#locked !== undefined) return;
    this.#locked = this.#lock(this.#place);
    process.once('exit', () => this.close());
  }

  write(text: string): void {
    try {
      writeOutput(this.#path, Buffer.from(text), this.#opened);
    } catch (error) {
      this.#lost = `${this.#name}: could not be written: ${(error as Error).message}`;
    }
  }

  /** Ends the lock, and removes the empty file that no report has replaced. */
  close(): void {
    if (this.#locked === undefined || this.#place === undefined) return;
    const isEmpty = fstatSync(this.#locked).size === 0;
    if (this.#isPlaceholder && isEmpty && isAt(this.#place, this.#locked)) rmSync(this.#place);
    closeSync(this.#locked);
    this.#locked = undefined;
  }

  get #name(): string {
    return `--report ${this.#path}`;
  }

  #openStream(path: string): number {
    try {
      return openStream(path);
    } catch (cause) {
      const why = openingTrouble(cause as Error);
      throw new PodError('io', `${this.#name}: could not be opened: ${why}`, cause);
    }
  }

  /** Another run may replace the file between its opening and its locking here: then it is opened again. */
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
    const found = opened(place, O_WRONLY);
    if (found !== undefined) return found;
    const made = opened(place, O_WRONLY | O_CREAT | O_EXCL);
    this.#isPlaceholder = made !== undefined;
    return made;
  }
}

/** Undefined where it cannot be opened: why is said when the report is written. */
function opened(path: string, flags: number): number | undefined {
  try {
    return openSync(path, flags, 0o666);
  } catch {
    return undefined;
  }
}

/** Whether an open file is still the one at its path. */
function isAt(path: string, file: number): boolean {
  return statSync(path, { throwIfNoEntry: false })?.ino === fstatSync(file).ino;
}
