import { fstatSync, rmSync, statSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { holderOfPath, inUse, type Lock, lockPath } from '../../cluster/host/lock.ts';
import { PodError } from '../numerics/error.ts';

/**
 * Keeps a report for one run, from its first step until it is written. A report is replaced whole, so
 * the lock is that of a hidden file beside it, which is removed with the lock.
 */
export class ReportLock {
  readonly #path: string;
  readonly #what: string;
  #lock: Lock | undefined;

  /**
   * Changes nothing on disk. `path` is that of the report, `what` names it in messages.
   *
   * @throws PodError `in-use` if another run is about to write it.
   */
  constructor(path: string, what: string) {
    this.#path = join(dirname(path), `.${basename(path)}.lock`);
    this.#what = what;
    const holder = holderOfPath(this.#path);
    if (holder !== undefined) throw inUse(what, holder);
  }

  /** Takes the report. Throws PodError `in-use`. A folder in which nothing can be made has no lock. */
  take(): void {
    while (this.#lock === undefined) {
      const lock = this.#attempt();
      if (lock === undefined) return;
      if (this.#isInPlace(lock)) this.#lock = lock;
      else lock.release();
    }
  }

  release(): void {
    if (this.#lock === undefined) return;
    rmSync(this.#path, { force: true });
    this.#lock.release();
    this.#lock = undefined;
  }

  #attempt(): Lock | undefined {
    try {
      return lockPath(this.#path, this.#what, 'pod train');
    } catch (error) {
      if (!(error instanceof PodError) || error.code !== 'io') throw error;
      // A full disk may take the file and not the words in it.
      if (holderOfPath(this.#path) === undefined) rmSync(this.#path, { force: true });
      return undefined;
    }
  }

  /** The owner before may have removed the file between its opening and its locking here. */
  #isInPlace({ file }: Lock): boolean {
    return statSync(this.#path, { throwIfNoEntry: false })?.ino === fstatSync(file).ino;
  }
}
