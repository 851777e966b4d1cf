import {
  closeSync,
  constants,
  fstatSync,
  ftruncateSync,
  openSync,
  rmSync,
  statSync,
} from 'node:fs';
import { join } from 'node:path';
import { type Lock, lockDirectory } from '../../cluster/host/lock.ts';
import { differenceBetween, type FixedKey, type RunKey } from '../experiment/same-run.ts';
import { endOfWholeLines } from '../files/lines.ts';
import { makeDirectory } from '../files/make-directory.ts';
import { lastLines, readAt } from '../files/read.ts';
import { isSystemError } from '../files/system-error.ts';
import { isAt } from '../files/target.ts';
import { writeAll, writeOutput } from '../files/write.ts';
import { messageOf, PodError } from '../numerics/error.ts';
import { jsonText } from '../numerics/quote.ts';
import type { RunEvent } from '../run/event.ts';
import { runFiles } from '../run/files.ts';
import { readSettings } from '../run/read-settings.ts';
import type { RunSettings } from '../run/schema.ts';
import type { Sink } from '../run/stream.ts';

export interface RunFolderOptions {
  readonly path: string;
  /**
   * This command, such as `pod train`. The error of a process that finds the folder locked names
   * this command as owner of the lock.
   */
  readonly use: string;
  /** Called once, with the reason, when a write to the folder fails for the first time. */
  readonly onLoss: (why: string) => void;
  /** Returns the time, in ms, that is recorded with an event. Default: the wall time. */
  readonly now?: () => number;
}

/** What {@link RunFolder} must know about a run that wants to write to the folder. */
export interface RecordedStart {
  readonly settings: RunSettings;
  /**
   * True if this process continues an earlier run and appends to the record of that run. False if a
   * new run begins; the folder must then have no record.
   */
  readonly continues: boolean;
}

/**
 * The folder of `--run`, locked for one run at a time. Before {@link begin}, events are kept in
 * memory and nothing changes on disk. If a write fails, the run goes on, and {@link lost} says why.
 */
export class RunFolder implements Sink {
  readonly #options: RunFolderOptions;
  readonly #held: string[] = [];
  #lock: Lock | undefined;
  /** Descriptor of the file of events; undefined before {@link begin} and after {@link end}. */
  #file: number | undefined;
  #master = 0;
  /** Size of the file of events up to its last whole line, in bytes. */
  #bytes = 0;
  #linesLost = 0;
  #lost: string | undefined;

  /**
   * Locks the folder if it exists. Changes nothing on disk.
   *
   * @throws PodError `in-use` if another run has locked the folder, `bad-config` if the path is not
   * that of a folder, `io` if the folder cannot be opened.
   */
  constructor(options: RunFolderOptions) {
    this.#options = options;
    if (statSync(options.path, { throwIfNoEntry: false }) !== undefined) this.#lockFolder();
  }

  /**
   * Checks that the run may write to the folder. Changes nothing on disk.
   *
   * @throws PodError `bad-config` if a new run begins and the folder already has a record, or if
   * the run continues and the folder has the record of another run; `bad-data` or `io` if the
   * record cannot be read.
   */
  check({ settings, continues }: RecordedStart): void {
    const found = readSettings(this.#options.path);
    if (found === undefined) {
      this.#refuseForeign();
      return;
    }
    const advice = 'name another folder';
    if (!continues) {
      const expected = 'a folder without the record of a run';
      throw this.#wrong(`expected ${expected}, found one of ${found.config.model}; ${advice}`);
    }
    const difference = differenceBetween<keyof FixedKey>(fixed(found.key), settings.key);
    if (difference === undefined) return;
    const { was, is } = difference;
    throw this.#wrong(
      `the record in this folder is of a run with ${was}, this run has ${is}; ${advice}`,
    );
  }

  /**
   * Makes and locks the folder, and starts to write to it. Does nothing if called again.
   *
   * @throws PodError for the same reasons as the constructor and {@link check}, and `io` if the
   * files cannot be opened.
   */
  begin(start: RecordedStart): void {
    if (this.#file !== undefined) return;
    const { path } = this.#options;
    this.#attempt(() => makeDirectory(path));
    if (this.#lock === undefined) this.#lockFolder();
    this.check(start);
    this.#file = this.#attempt(() => this.#openEvents());
    for (const name of [runFiles.report, runFiles.verdict]) {
      this.#attempt(() => rmSync(join(path, name), { force: true }));
    }
    this.#writeWhole(runFiles.config, start.settings);
    for (const line of this.#held.splice(0)) this.#append(this.#file, line);
  }

  /** Records an event. The event `finished` carries a report, which is written to a file too. */
  take(event: RunEvent): void {
    const { now = Date.now } = this.#options;
    const line = `"time":${now()},${jsonText(event).slice(1)}\n`;
    if (this.#file === undefined) {
      this.#held.push(line);
      return;
    }
    this.#append(this.#file, line);
    if (event.kind !== 'finished') return;
    this.#noteGone();
    this.#writeWhole(runFiles.report, event.report);
  }

  /** Closes the file of events and releases the lock. {@link lost} can still be read. */
  end(): void {
    this.#noteGone();
    if (this.#file !== undefined) closeSync(this.#file);
    this.#file = undefined;
    this.#lock?.release();
    this.#lock = undefined;
  }

  /** Message of one line that says what was lost, and why; undefined if nothing was lost. */
  get lost(): string | undefined {
    if (this.#lost === undefined) return undefined;
    const lines = this.#linesLost === 1 ? '1 event' : `${this.#linesLost} events`;
    return this.#linesLost === 0 ? this.#lost : `${this.#lost} (${lines} lost)`;
  }

  get #name(): string {
    return `--run ${this.#options.path}`;
  }

  #lockFolder(): void {
    const { path, use } = this.#options;
    if (statSync(path, { throwIfNoEntry: false })?.isDirectory() !== true) {
      throw this.#wrong('expected a folder, found something else');
    }
    this.#lock = lockDirectory(path, use);
  }

  /**
   * Refuses a folder that has files of a record but no settings. Without the settings nothing says
   * to which run the files belong. They may be files of the user that only have the same names.
   */
  #refuseForeign(): void {
    const found = Object.values(runFiles).find((name) => {
      const path = join(this.#options.path, name);
      return (statSync(path, { throwIfNoEntry: false })?.size ?? 0) > 0;
    });
    if (found === undefined) return;
    throw this.#wrong(
      `expected a folder without ${found}, found one without ${runFiles.config}; name another folder`,
    );
  }

  /**
   * Opens the file of events. Removes its last line if this line has no newline, because an earlier
   * process ended while it wrote the line.
   */
  #openEvents(): number {
    const { O_RDWR, O_APPEND, O_CREAT, O_NONBLOCK = 0 } = constants;
    const path = join(this.#options.path, runFiles.events);
    const file = openSync(path, O_RDWR | O_APPEND | O_CREAT | O_NONBLOCK, 0o666);
    try {
      const stats = fstatSync(file);
      if (!stats.isFile()) throw new Error(`${runFiles.events} is no regular file`);
      this.#bytes = endOfWholeLines(stats.size, (start, length) => readAt(file, start, length));
      if (this.#bytes < stats.size) ftruncateSync(file, this.#bytes);
      this.#master = masterAfter(lastLines({ kind: 'opened', file, stats }, tailBytes));
      return file;
    } catch (error) {
      closeSync(file);
      throw error;
    }
  }

  /** Appends a line to the file of events. If that fails, removes the part that was written. */
  #append(file: number, line: string): void {
    const bytes = Buffer.from(`{"master":${this.#master},${line}`);
    try {
      writeAll(file, bytes);
      this.#bytes += bytes.length;
    } catch (error) {
      this.#linesLost++;
      this.#lose(error);
      removeAfter(file, this.#bytes);
    }
  }

  #writeWhole(name: string, value: unknown): void {
    try {
      const text = `${jsonText(value, 2)}\n`;
      writeOutput(join(this.#options.path, name), Buffer.from(text));
    } catch (error) {
      this.#lose(error);
    }
  }

  #lose(error: unknown): void {
    if (this.#lost !== undefined) return;
    this.#lost = `${this.#name}: could not be written: ${messageOf(error)}`;
    this.#options.onLoss(this.#lost);
  }

  /**
   * Sets `#lost` if the file of events was deleted or replaced, because then nobody can read the
   * events that were written to it.
   */
  #noteGone(): void {
    if (this.#file === undefined || this.#lost !== undefined) return;
    const path = join(this.#options.path, runFiles.events);
    if (isAt(path, this.#file)) return;
    this.#lost = `${this.#name}: the folder was deleted or replaced while the run went on`;
  }

  #wrong(what: string): PodError {
    return new PodError('bad-config', `${this.#name}: ${what}`);
  }

  #attempt<T>(work: () => T): T {
    try {
      return work();
    } catch (cause) {
      if (cause instanceof PodError) throw cause;
      const why = messageOf(cause);
      throw new PodError('io', `${this.#name}: could not be opened: ${why}`, cause);
    }
  }
}

/** How many bytes at the end of the file of events are searched for its last event. */
const tailBytes = 2 ** 20;

/** Returns the fields of a run's key that do not change when a resumed run is made longer. */
function fixed({ steps: _, ratesDigest: __, ...rest }: RunKey): FixedKey {
  return rest;
}

/**
 * Returns the index of a new master, counted from 0, from lines of the file of events. It is one
 * more than the index of the master in the last line that has one. If no line has one, the result
 * is 0.
 */
function masterAfter(lines: readonly string[]): number {
  const last = lines.findLast((line) => masterIn(line) !== undefined);
  return last === undefined ? 0 : (masterIn(last) ?? 0) + 1;
}

function masterIn(line: string): number | undefined {
  const found = /^\{"master":(\d{1,9}),/.exec(line)?.[1];
  return found === undefined ? undefined : Number(found);
}

/**
 * Shortens a file to `bytes` bytes. If that fails, a partial line stays at the end of the file. The
 * next event is appended to this line, so readers of the record report the line as damaged.
 */
function removeAfter(file: number, bytes: number): void {
  try {
    ftruncateSync(file, bytes);
  } catch (error) {
    if (!isSystemError(error)) throw error;
  }
}
