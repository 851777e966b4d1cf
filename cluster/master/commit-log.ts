import { randomBytes } from 'node:crypto';
import { dirname } from 'node:path';
import type { Report, StepCommitted } from '../../src/experiment/event.ts';
import type { EarlierMasters } from '../../src/experiment/past.ts';
import { keyDigest } from '../../src/experiment/same-run.ts';
import { assert } from '../../src/numerics/assert.ts';
import { type ErrorCode, messageOf, PodError } from '../../src/numerics/error.ts';
import { type CommitFile, type CommitFiles, nodeCommitFiles } from './commit-files.ts';
import {
  type Failed,
  LogContents,
  type LogRecord,
  parseRecord,
  type RunRecord,
} from './log-record.ts';

/**
 * The commit log: a file from which each master of a run learns what earlier masters committed.
 * Each line is a JSON record of an event, such as the commit of a step. Records are only appended,
 * and a record is on disk before any worker learns of its event.
 *
 * A reader skips a truncated or damaged line. If that line was the commit of a step, the reader
 * also ignores the commits of all later steps. The next master then runs these steps again.
 *
 * The leader of a run is the master that opened the log last. After a newer master has opened the
 * log, readers ignore all records of older masters. An older master finds this out at its next
 * record: it looks for a newer master before and after it writes. It then stops with PodError
 * `superseded`, before any worker learns of the event.
 */
export interface CommitLog {
  /** Returns the memberships and commits that earlier masters wrote. */
  past(): EarlierMasters;
  /** Number of the last committed step of this run, by whichever master; 0 if there is none. */
  readonly lastStep: number;
  /** True if the log had this run already, so that this master continues the run. */
  readonly isContinued: boolean;
  /**
   * Error with which the run has failed for good; null if the run has not failed. After such a
   * failure no record can be added to the run.
   */
  readonly failed: Failed | null;
  /**
   * Report of the run if the run is complete; null otherwise. No record can be added to a complete
   * run.
   */
  readonly finished: Report | null;
  /**
   * The run before this one in the log, if it was unfinished and had a committed step; null
   * otherwise. That run will not be continued, but its lines stay in the file.
   */
  readonly abandoned: Abandoned | null;
  /** Line numbers, from 1, of truncated or damaged lines. The reader skipped these lines. */
  readonly unreadable: readonly number[];
  /** Appends the record that the membership with number `generation` begins. */
  beginGeneration(generation: number): void;
  /**
   * Appends the record that a step is committed in membership `generation`. If the log already has
   * a commit of this step, appends nothing and compares the digests of the two commits.
   *
   * @throws PodError `digest-mismatch` if the digests differ.
   */
  commit(event: StepCommitted, generation: number): void;
  /**
   * Appends the record that the run has failed for good. Does nothing for the code `superseded`:
   * that error ends only this master, not the run.
   */
  fail(code: ErrorCode, message: string): void;
  /** Appends the record that the run is complete. The record contains the report of the run. */
  finish(report: Report): void;
  close(): void;
}

/** An unfinished run whose commit log another run has taken over. */
export interface Abandoned {
  /** Number of the last committed step of the abandoned run. */
  readonly step: number;
  /** Number of steps that the whole abandoned run would have had. */
  readonly steps: number;
  /**
   * Key of the abandoned run: the settings and data that identify a run (RunKey of
   * src/experiment/same-run.ts). Undefined in a log of an old version.
   */
  readonly key: unknown;
}

/**
 * Opens the commit log of a run, or creates the file. `key` identifies the run. If the last run in
 * the log has the same key, this master continues that run. Otherwise a new run begins in the same
 * file.
 *
 * This master becomes the leader of the run and begins a new generation, whose number is one more
 * than the last number in the log. This also holds if the log was written by another run. But if
 * the run to continue has already ended, the log stays unchanged and the run has no leader.
 *
 * @throws PodError `io` when the file cannot be read or written. Methods of the log that add
 *   records throw `io` too, and `superseded` when a newer master leads.
 */
export function openCommitLog(
  path: string,
  key: object,
  files: CommitFiles = nodeCommitFiles,
): CommitLog {
  return new FileLog(path, { run: keyDigest(key), key: { ...key } }, files);
}

/** Maximum number of bytes that are read from the file at once. */
const chunkBytes = 2 ** 16;
const newline = 0x0a;

class FileLog implements CommitLog {
  readonly #path: string;
  readonly #file: CommitFile;
  readonly #past: EarlierMasters;
  /**
   * Generation with which this master became the leader; null if the run had ended before this
   * master opened the log.
   */
  readonly #own: number | null;
  readonly #name: string = randomBytes(8).toString('hex');
  readonly #contents: LogContents = new LogContents();
  #isContinued = false;
  #abandoned: Abandoned | null = null;
  readonly #unreadable: number[] = [];
  #lines = 0;
  /** Number of bytes of the file that have been read. */
  #readBytes = 0;
  /**
   * The bytes that were read after the last newline. They are the beginning of a line whose rest is
   * missing, or is not written yet.
   */
  #rest: Buffer = Buffer.alloc(0);

  constructor(path: string, run: RunRecord, files: CommitFiles) {
    this.#path = path;
    this.#file = this.#attempt(() => openFile(files, path));
    try {
      this.#attempt(() => this.#catchUp());
      this.#own = this.#lead(run);
      const { history, recoveries } = this.#contents;
      const generation = this.#own === null ? this.#contents.generation : this.#own - 1;
      this.#past = { generation, history: [...history], recoveries };
    } catch (error) {
      this.#file.close();
      throw error;
    }
  }

  past(): EarlierMasters {
    return this.#past;
  }

  get lastStep(): number {
    return this.#contents.history.at(-1)?.step ?? 0;
  }

  get isContinued(): boolean {
    return this.#isContinued;
  }

  get failed(): Failed | null {
    return this.#contents.failed;
  }

  get finished(): Report | null {
    return this.#contents.finished;
  }

  get abandoned(): Abandoned | null {
    return this.#abandoned;
  }

  get unreadable(): readonly number[] {
    return this.#unreadable;
  }

  beginGeneration(generation: number): void {
    this.#checkLead();
    if (generation > this.#contents.generation) this.#add({ generation });
  }

  commit(event: StepCommitted, generation: number): void {
    this.#checkLead();
    const { step, digest } = event;
    const { steps, history } = this.#contents;
    if (step <= steps) {
      checkRepeated(event, history);
      return;
    }
    if (step === steps + 1) this.#add({ commit: event, generation });
    else this.#add({ from: step - 1, generation }, { commit: event, generation });
    const last = history.at(-1);
    if (last?.step !== step || last.digest !== digest) {
      throw new PodError(
        'io',
        `commit log ${this.#path}: step ${step} was written, but cannot be read back`,
      );
    }
    // `#add` has read the record back from the file, so the last entry of `history` is a second
    // object with the contents of `event`. `event` itself stays in memory too, because the training
    // loop keeps it. So `event` replaces the second object, which saves memory.
    history[history.length - 1] = event;
  }

  fail(code: ErrorCode, message: string): void {
    if (code === 'superseded') return;
    this.#checkLead();
    this.#add({ failed: code, message, generation: this.#contents.generation });
  }

  finish(report: Report): void {
    this.#checkLead();
    this.#add({ finished: report, generation: this.#contents.generation });
  }

  close(): void {
    this.#file.close();
  }

  /**
   * Makes this master the leader. Its generation is the number after the last generation in the
   * log. If another master wrote the same number first, tries again with the next number. Returns
   * the generation. If this run has already ended, writes nothing and returns null.
   */
  #lead(run: RunRecord): number | null {
    for (;;) {
      const { run: found, failed, finished, generation } = this.#contents;
      const isEnded = failed !== null || finished !== null;
      const isOther = found !== run.run;
      this.#isContinued = !isOther;
      if (isEnded && !isOther) return null;
      if (isOther && !isEnded) this.#abandoned = abandonedOf(this.#contents);
      const head: LogRecord[] = isOther ? [run] : [];
      const own: LogRecord = { master: generation + 1, name: this.#name };
      this.#attempt(() => this.#write([...head, own]));
      this.#attempt(() => this.#catchUp());
      if (this.#contents.leader.name === this.#name) return own.master;
    }
  }

  /** Appends records, then checks that this master still leads. */
  #add(...records: readonly LogRecord[]): void {
    this.#attempt(() => this.#write(records));
    this.#checkLead();
  }

  #checkLead(): void {
    assert(this.#own !== null, 'a record of a run that is over');
    this.#attempt(() => this.#catchUp());
    const { leader } = this.#contents;
    if (leader.name === this.#name) return;
    const leads = `a newer master, since generation ${leader.generation}, leads the run`;
    throw new PodError('superseded', `${leads}; this master began with generation ${this.#own}`);
  }

  #write(records: readonly LogRecord[]): void {
    // The last line of the file may be truncated, so that it has no newline. A newline is then
    // written first, so that the new record begins on a line of its own.
    const start = this.#rest.length > 0 ? '\n' : '';
    const text = `${start}${records.map((it) => `${JSON.stringify(it)}\n`).join('')}`;
    const bytes = Buffer.from(text);
    const written = this.#file.append(bytes);
    this.#file.sync();
    if (written < bytes.length) throw new Error(`${written} of ${bytes.length} bytes were written`);
  }

  /** Reads the lines that this master or another master has appended since the last call. */
  #catchUp(): void {
    const size = this.#file.size();
    if (size < this.#readBytes)
      throw new Error(`the file has shrunk from ${this.#readBytes} to ${size} bytes`);
    for (const line of this.#newLines(size)) {
      this.#lines++;
      const record = parseRecord(line);
      if (record !== undefined) this.#contents.take(record);
      else this.#unreadable.push(this.#lines);
    }
  }

  /** Reads the file from byte `#readBytes` up to byte `size`, and yields each complete line. */
  *#newLines(size: number): Generator<string> {
    const chunk = Buffer.alloc(Math.min(chunkBytes, size - this.#readBytes));
    while (this.#readBytes < size) {
      const length = Math.min(chunk.length, size - this.#readBytes);
      const count = this.#file.read(chunk.subarray(0, length), this.#readBytes);
      if (count === 0) return;
      this.#readBytes += count;
      let bytes = Buffer.concat([this.#rest, chunk.subarray(0, count)]);
      for (let end = bytes.indexOf(newline); end >= 0; end = bytes.indexOf(newline)) {
        yield bytes.toString('utf8', 0, end);
        bytes = bytes.subarray(end + 1);
      }
      this.#rest = bytes;
    }
  }

  #attempt<T>(work: () => T): T {
    try {
      return work();
    } catch (cause) {
      throw new PodError('io', `commit log ${this.#path}: ${messageOf(cause)}`, cause);
    }
  }
}

/**
 * Describes the unfinished run in a log before another run replaces it. Returns null if the
 * unfinished run has no committed step: nothing is lost then.
 */
function abandonedOf({ key, steps: step, history }: LogContents): Abandoned | null {
  const last = history.at(-1);
  return last === undefined ? null : { step, steps: last.steps, key };
}

function checkRepeated({ step, digest }: StepCommitted, history: readonly StepCommitted[]): void {
  const before = history.find((it) => it.step === step);
  if (before === undefined || before.digest === digest) return;
  const expected = `weights ${before.digest}, as in its first commit`;
  throw new PodError(
    'digest-mismatch',
    `step ${step}, run again: expected ${expected}, found ${digest}`,
  );
}

/**
 * Opens a file for appending, and ensures that the file and its directories survive a loss of
 * power. If the file is empty, the directory of the file is synced. The file may be empty because
 * an earlier master was killed after it created the file and before it synced the directory. If the
 * file has contents, the directory is synced already, because a master writes only after the sync.
 */
function openFile(files: CommitFiles, path: string): CommitFile {
  makeDirectories(files, dirname(path));
  const file = files.open(path);
  try {
    if (file.size() === 0) files.syncDirectory(dirname(path));
  } catch (error) {
    file.close();
    throw error;
  }
  return file;
}

function makeDirectories(files: CommitFiles, path: string): void {
  if (files.hasDirectory(path) || dirname(path) === path) return;
  makeDirectories(files, dirname(path));
  files.makeDirectory(path);
  files.syncDirectory(dirname(path));
}
