import { appendFileSync, copyFileSync, existsSync } from 'node:fs';
import { join } from 'node:path';
import { makeDirectory } from '../files/make-directory.ts';
import { messageOf, PodError } from '../numerics/error.ts';
import { runFiles } from '../run/files.ts';

/**
 * Copy of the record of a run in containers, in a folder of the user. The containers have another
 * user, so they do not write to that folder themselves. The copy grows with the record.
 */
export class RecordCopy {
  readonly #from: string;
  readonly #to: string | undefined;

  /** `to` is the folder of the copy; undefined if the record is not kept. */
  constructor(from: string, to: string | undefined) {
    this.#from = from;
    this.#to = to;
  }

  /**
   * Appends a line to the events of the copy.
   *
   * @throws PodError `io` if it cannot be written.
   */
  readonly append = (line: string): void => {
    this.#write((to) => {
      makeDirectory(to);
      this.#copy(to, runFiles.config);
      appendFileSync(join(to, runFiles.events), `${line}\n`);
    });
  };

  /** Copies what is written when the run is done. */
  end(): void {
    this.#write((to) => this.#copy(to, runFiles.report));
  }

  #copy(to: string, name: string): void {
    const [source, target] = [join(this.#from, name), join(to, name)];
    if (existsSync(source) && !existsSync(target)) copyFileSync(source, target);
  }

  #write(work: (to: string) => void): void {
    if (this.#to === undefined) return;
    try {
      work(this.#to);
    } catch (error) {
      throw new PodError('io', `--run ${this.#to}: ${messageOf(error)}`, error);
    }
  }
}
