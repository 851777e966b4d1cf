import { closeSync, constants, fstatSync, ftruncateSync, openSync, readSync } from 'node:fs';
import { lockOpened } from '../../cluster/host/lock.ts';
import { LogOutput } from '../../cluster/worker/log-output.ts';
import { type Target, targetOf } from '../files/target.ts';
import { openingTrouble, openStream } from '../files/write.ts';
import { PodError } from '../numerics/error.ts';

export interface LogFileOptions {
  readonly path: string;
  /** Whether lines are added to what is there, since the run goes on. */
  readonly isAppended: boolean;
  /** Told once, when the first line cannot be written. */
  readonly onLoss: (why: string) => void;
}

const gone = 'the file was deleted or replaced while the run went on';

/**
 * The file of `--log`. It belongs to one run at a time. Until {@link begin} the file stays as it is, and
 * lines are kept in memory. A line that cannot be written is left out, and the run goes on.
 */
export class LogFile {
  readonly #options: LogFileOptions;
  readonly #held: string[] = [];
  #file: number | undefined;
  #output: LogOutput | undefined;
  #why = '';

  /** @throws PodError `in-use` when another run writes to the file, `io` when it cannot be opened. */
  constructor(options: LogFileOptions) {
    this.#options = options;
    this.#file = this.#attempt(() => this.#open('if there'));
  }

  /** Begins to write: clears what an older run wrote, unless lines are appended. Throws as the constructor. */
  begin(): void {
    if (this.#output !== undefined) return;
    const file = this.#file ?? this.#attempt(() => this.#open('make'));
    if (file === undefined) return;
    this.#file = file;
    this.#output = new LogOutput({
      file,
      isCut: this.#attempt(() => this.#isCut(file)),
      onLoss: (why) => this.#lose(why),
    });
    for (const line of this.#held.splice(0)) this.#output.write(line);
  }

  /** `line` with its newline. */
  write(line: string): void {
    if (this.#output === undefined) this.#held.push(line);
    else this.#output.write(line);
  }

  /** What was lost, in one line; undefined when everything was written. */
  get lost(): string | undefined {
    const count = this.#output?.lostInAll ?? 0;
    if (count === 0) return this.#isGone() ? `--log ${this.#options.path}: ${gone}` : undefined;
    const lines = count === 1 ? '1 line' : `${count} lines`;
    return `--log ${this.#options.path}: ${lines} could not be written: ${this.#why}`;
  }

  /** Whether the file has no name any more: its lines went nowhere. */
  #isGone(): boolean {
    if (this.#file === undefined) return false;
    const stats = fstatSync(this.#file);
    return stats.isFile() && stats.nlink === 0;
  }

  #lose(why: string): void {
    this.#why = why;
    this.#options.onLoss(`--log ${this.#options.path}: could not be written: ${why}`);
  }

  #open(when: 'if there' | 'make'): number | undefined {
    const target = targetOf(this.#options.path);
    switch (target.kind) {
      case 'refused':
        throw new Error(`expected ${target.expected}, found ${target.found}`);
      case 'descriptor':
        return target.descriptor;
      case 'stream':
        return openStream(target.path);
      case 'file':
        return when === 'make' || target.stats !== undefined ? this.#take(target) : undefined;
    }
  }

  #take({ path }: Extract<Target, { readonly kind: 'file' }>): number {
    const file = openSync(path, constants.O_RDWR | constants.O_APPEND | constants.O_CREAT, 0o666);
    try {
      lockOpened(file, `--log ${this.#options.path}`);
    } catch (error) {
      closeSync(file);
      throw error;
    }
    return file;
  }

  /** Empties the file, or says whether what is there ends in the middle of a line. */
  #isCut(file: number): boolean {
    const stats = fstatSync(file);
    if (!stats.isFile() || targetOf(this.#options.path).kind === 'descriptor') return false;
    if (!this.#options.isAppended) {
      ftruncateSync(file, 0);
      return false;
    }
    const last = Buffer.alloc(1);
    return stats.size > 0 && readSync(file, last, 0, 1, stats.size - 1) === 1 && last[0] !== 10;
  }

  #attempt<T>(work: () => T): T {
    try {
      return work();
    } catch (cause) {
      if (cause instanceof PodError) throw cause;
      const why = openingTrouble(cause as Error);
      throw new PodError('io', `--log ${this.#options.path}: could not be opened: ${why}`, cause);
    }
  }
}
