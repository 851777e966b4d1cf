import { closeSync, constants, fstatSync, ftruncateSync, openSync, readSync } from 'node:fs';
import { lockOpened } from '../../cluster/host/lock.ts';
import { LogOutput } from '../../cluster/worker/log-output.ts';
import { type Target, targetOf } from '../files/target.ts';
import { openingTrouble, openStream } from '../files/write.ts';
import { PodError } from '../numerics/error.ts';

export interface LogFileOptions {
  readonly path: string;
  /**
   * True if the run continues an earlier run and appends to the log of that run. False if the
   * run replaces the content of the file.
   */
  readonly isAppended: boolean;
  /** Called once, with the reason, when the write of a line fails for the first time. */
  readonly onLoss: (why: string) => void;
}

const gone = 'the file was deleted or replaced while the run went on';

/**
 * The file of `--log`, locked for one run at a time. Before {@link begin}, lines are kept in memory
 * and the file stays unchanged. If a line cannot be written, the line is lost and the run goes on.
 */
export class LogFile {
  readonly #options: LogFileOptions;
  readonly #held: string[] = [];
  #file: number | undefined;
  #output: LogOutput | undefined;
  #why = '';

  /**
   * Opens and locks the file if it exists. Otherwise {@link begin} creates and locks it.
   *
   * @throws PodError `in-use` if another run writes to the file, `io` if the file cannot be opened.
   */
  constructor(options: LogFileOptions) {
    this.#options = options;
    this.#file = this.#attempt(() => this.#open('if there'));
  }

  /**
   * Starts writing to the file. Empties the file first, unless the run appends to it. Throws the
   * errors of the constructor.
   */
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

  /** Writes one line; `line` ends with a newline. */
  write(line: string): void {
    if (this.#output === undefined) this.#held.push(line);
    else this.#output.write(line);
  }

  /**
   * Message of one line that says what the log lacks: how many lines were lost and why, or that the
   * file was deleted. Undefined if the log is complete.
   */
  get lost(): string | undefined {
    const count = this.#output?.lostInAll ?? 0;
    if (count === 0) return this.#isGone() ? `--log ${this.#options.path}: ${gone}` : undefined;
    const lines = count === 1 ? '1 line' : `${count} lines`;
    return `--log ${this.#options.path}: ${lines} could not be written: ${this.#why}`;
  }

  /** True if the file was deleted. Its lines cannot be read then. */
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

  /**
   * Prepares the opened file for the first line: empties the file unless the run appends to it.
   * Returns true if the last line of the file has no newline, so that a newline must be written
   * first. A pipe, a device or an inherited file descriptor stays unchanged, and the result is
   * false.
   */
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
