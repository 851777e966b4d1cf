import { randomBytes } from 'node:crypto';
import { dirname } from 'node:path';
import type { Report, StepCommitted } from '../../src/experiment/event.ts';
import type { Past } from '../../src/experiment/past.ts';
import { keyDigest } from '../../src/experiment/same-run.ts';
import { assert } from '../../src/numerics/assert.ts';
import { type ErrorCode, PodError } from '../../src/numerics/error.ts';
import { type CommitFile, type CommitFiles, nodeCommitFiles } from './commit-files.ts';
import {
  type Failed,
  LogContents,
  type LogRecord,
  parseRecord,
  type RunRecord,
} from './log-record.ts';

/**
 * The memory of a run's masters: one JSON record a line, on disk before anybody hears of what it
 * says. Lines are only ever added, each in one write. A line that was cut off, or damaged, is left
 * aside, and the history ends before the step that it told of.
 *
 * Who opens the log of a run that has not ended leads it. A master finds out that a newer one leads
 * before it writes, and again before it goes on: what it wrote meanwhile counts for nobody, and no
 * worker hears of it.
 */
export interface CommitLog {
  /** What was written down before this master. */
  past(): Past;
  /** Why the run has failed for good, if it has: then it is not led, and nothing can be added. */
  readonly failed: Failed | null;
  /** The run's report, if it is done: then it is not led, and nothing can be added. */
  readonly finished: Report | null;
  /**
   * The run that was in the log and had not ended, if this is another run: it is not gone on with. Its
   * lines stay in the file.
   */
  readonly abandoned: Abandoned | null;
  /** The numbers of the lines that were left aside: they were cut off, or are damaged. */
  readonly unreadable: readonly number[];
  /** A membership begins. */
  beginGeneration(generation: number): void;
  /**
   * A step is committed, in membership `generation`. One that is there already must have ended with the
   * same digest, and is not written again: `digest-mismatch` otherwise.
   */
  commit(event: StepCommitted, generation: number): void;
  /** The run has failed for good; that this master was superseded is no failure of the run. */
  fail(code: ErrorCode, message: string): void;
  /** The run is done. */
  finish(report: Report): void;
  close(): void;
}

/** A run that another run took the place of before its end. */
export interface Abandoned {
  /** Steps that it had committed, and steps of the whole run. */
  readonly step: number;
  readonly steps: number;
  /** What made it the run that it was, as src/experiment/same-run.ts has it, if that was written. */
  readonly key: unknown;
}

/**
 * Opens the log of a run, makes it where it is missing, and takes the lead with the generation after the
 * last. The log of another run is begun anew, after its generations. `key` is what makes the run this run:
 * runs with equal keys go on where the other ended.
 *
 * @throws PodError `io` when it cannot be read or written. So does all that adds to it, and
 *   `superseded` when a newer master leads.
 */
export function openCommitLog(
  path: string,
  key: object,
  files: CommitFiles = nodeCommitFiles,
): CommitLog {
  return new FileLog(path, { run: keyDigest(key), key: { ...key } }, files);
}

/** Read at a time. */
const chunkBytes = 2 ** 16;
const newline = 0x0a;

class FileLog implements CommitLog {
  readonly #path: string;
  readonly #file: CommitFile;
  readonly #past: Past;
  /** The generation that this master took; none when there is nothing to lead. */
  readonly #own: number | null;
  readonly #name: string = randomBytes(8).toString('hex');
  readonly #contents: LogContents = new LogContents();
  #abandoned: Abandoned | null = null;
  readonly #unreadable: number[] = [];
  #lines = 0;
  /** Bytes that have been read, and of them those of a last line without an end. */
  #readBytes = 0;
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

  past(): Past {
    return this.#past;
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
      throw new PodError('io', `commit log ${this.#path}: step ${step} is not what was written`);
    }
    // The training loop keeps this object too, so a long run holds each step once.
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

  /** Takes the generation after the last; again if another master took the same one first. */
  #lead(run: RunRecord): number | null {
    for (;;) {
      const { run: found, failed, finished, generation } = this.#contents;
      const isEnded = failed !== null || finished !== null;
      const isOther = found !== run.run;
      if (isEnded && !isOther) return null;
      if (isOther && !isEnded) this.#abandoned = abandonedOf(this.#contents);
      const head: LogRecord[] = isOther ? [run] : [];
      const own: LogRecord = { master: generation + 1, name: this.#name };
      this.#attempt(() => this.#write([...head, own]));
      this.#attempt(() => this.#catchUp());
      if (this.#contents.leader.name === this.#name) return own.master;
    }
  }

  /** Adds records while this master leads, and still does once they are there. */
  #add(...records: readonly LogRecord[]): void {
    this.#attempt(() => this.#write(records));
    this.#checkLead();
  }

  #checkLead(): void {
    assert(this.#own !== null, 'a record of a run that is over');
    this.#attempt(() => this.#catchUp());
    const { leader } = this.#contents;
    if (leader.name === this.#name) return;
    const found = `a master that began with generation ${leader.generation} leads the run`;
    throw new PodError('superseded', `${found}, this one began with ${this.#own}`);
  }

  #write(records: readonly LogRecord[]): void {
    // What was cut off stays a line of its own.
    const start = this.#rest.length > 0 ? '\n' : '';
    const text = `${start}${records.map((it) => `${JSON.stringify(it)}\n`).join('')}`;
    const bytes = Buffer.from(text);
    const written = this.#file.append(bytes);
    this.#file.sync();
    if (written < bytes.length) throw new Error(`${written} of ${bytes.length} bytes were written`);
  }

  /** Reads what was added since it last did. */
  #catchUp(): void {
    const size = this.#file.size();
    if (size < this.#readBytes)
      throw new Error(`it was cut from ${this.#readBytes} to ${size} bytes`);
    for (const line of this.#newLines(size)) {
      this.#lines++;
      const record = parseRecord(line);
      if (record !== undefined) this.#contents.take(record);
      else this.#unreadable.push(this.#lines);
    }
  }

  /** The lines that have come to their end, up to `size` bytes. */
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
      const why = cause instanceof Error ? cause.message : String(cause);
      throw new PodError('io', `commit log ${this.#path}: ${why}`, cause);
    }
  }
}

/** A run that has not committed a step has nothing to lose. */
function abandonedOf({ key, steps: step, history }: LogContents): Abandoned | null {
  const last = history.at(-1);
  return last === undefined ? null : { step, steps: last.steps, key };
}

function checkRepeated({ step, digest }: StepCommitted, history: readonly StepCommitted[]): void {
  const before = history.find((it) => it.step === step);
  if (before === undefined || before.digest === digest) return;
  const found = `weights ${digest}, ${before.digest} when it was committed first`;
  throw new PodError('digest-mismatch', `step ${step} run again: ${found}`);
}

/**
 * Opens a file for appending, and makes it and the directories above it outlast a loss of power. An empty
 * file may be left of a master that was killed before it had synced the directory: it is synced again.
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
