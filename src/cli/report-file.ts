import { targetOf } from '../files/target.ts';
import { openingTrouble, openStream, writeOutput } from '../files/write.ts';
import { PodError } from '../numerics/error.ts';
import { ReportLock } from './report-lock.ts';

/** The file of `--report`. */
export class ReportFile {
  readonly #path: string;
  /** A pipe or a device is opened before the run: whether somebody reads a pipe is known then. */
  readonly #opened: number | undefined;
  /** A regular file belongs to one run at a time. */
  readonly #lock: ReportLock | undefined;
  #lost: string | undefined;

  /** @throws PodError `io` when it is a pipe or a device that cannot be opened, `in-use` as {@link begin}. */
  constructor(path: string) {
    this.#path = path;
    try {
      const target = targetOf(path);
      if (target.kind === 'stream') this.#opened = openStream(target.path);
      if (target.kind === 'file') this.#lock = new ReportLock(target.path, `--report ${path}`);
    } catch (cause) {
      if (cause instanceof PodError) throw cause;
      const why = openingTrouble(cause as Error);
      throw new PodError('io', `--report ${path}: could not be opened: ${why}`, cause);
    }
  }

  /** Why the report could not be written; undefined when it was. */
  get lost(): string | undefined {
    return this.#lost;
  }

  /** The run begins. Throws PodError `in-use` when another run is about to write the report. */
  begin(): void {
    this.#lock?.take();
  }

  close(): void {
    this.#lock?.release();
  }

  write(text: string): void {
    try {
      writeOutput(this.#path, Buffer.from(text), this.#opened);
    } catch (error) {
      this.#lost = `--report ${this.#path}: could not be written: ${(error as Error).message}`;
    }
  }
}
