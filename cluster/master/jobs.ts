import { join } from 'node:path';
import { z } from 'zod';
import type { Report } from '../../src/experiment/event.ts';
import { parseJson } from '../../src/files/json.ts';
import { mismatch } from '../../src/files/mismatch.ts';
import { isSystemError } from '../../src/files/system-error.ts';
import { PodError } from '../../src/numerics/error.ts';
import type { JobFiles } from './job-files.ts';

/**
 * A job and its progress. Times are in ms since 1970. The summary of a job that is done is not in
 * this object, because it is long for a large pod. The summary stays on disk.
 */
export type Job = QueuedJob | RunningJob | DoneJob | FailedJob | CancelledJob;
export type JobState = Job['state'];

interface Submitted {
  /** Name of the job: `job-1`, `job-2` and so on, in order of submission. */
  readonly id: string;
  /** Flags of the job, as for `pod train`. */
  readonly words: readonly string[];
  readonly submittedMs: number;
}

export interface QueuedJob extends Submitted {
  readonly state: 'queued';
}

export interface RunningJob extends Submitted {
  readonly state: 'running';
  /**
   * Time at which the job first started to run. A later master that continues the job keeps this
   * time.
   */
  readonly startedMs: number;
  /** True if the user has cancelled the job. The job then ends after its current step. */
  readonly isCancelling: boolean;
}

export interface DoneJob extends Submitted {
  readonly state: 'done';
  readonly startedMs: number;
  readonly endedMs: number;
}

export interface FailedJob extends Submitted {
  readonly state: 'failed';
  readonly startedMs: number;
  readonly endedMs: number;
  /** Code of the PodError, or `mistake` for any other error. */
  readonly code: string;
  /** Exit code that `pod train` has for this error. */
  readonly exitCode: number;
  /** The error message, as one line. */
  readonly reason: string;
}

export interface CancelledJob extends Submitted {
  readonly state: 'cancelled';
  /** Time at which the job first started to run; null if the job never ran. */
  readonly startedMs: number | null;
  readonly endedMs: number;
}

/** A job that is done, failed or cancelled. */
export type EndedJob = DoneJob | FailedJob | CancelledJob;

/** True if a job is done, failed or cancelled. */
export function hasEnded(job: Job): job is EndedJob {
  return job.state !== 'queued' && job.state !== 'running';
}

export function jobName(number: number): string {
  return `job-${number}`;
}

/**
 * Returns the number of a job, from 1, such as 7 for `job-7`. Returns undefined if `id` is not the
 * name of a job.
 */
export function numberOf(id: string): number | undefined {
  const number = Number(/^job-(\d{1,9})$/.exec(id)?.[1]);
  return number >= 1 && jobName(number) === id ? number : undefined;
}

/**
 * Schema of a time in ms since 1970. The largest valid time is the end of the year 9999, so that
 * the year in a printed date always has four digits.
 */
const wallMs = z.number().min(0).max(253_402_300_799_999);
const submitted = { id: z.string(), words: z.array(z.string()), submittedMs: wallMs };
const startedMs = wallMs;
const endedMs = wallMs;
const started = { ...submitted, startedMs };

/** Schema of `job.json`, without the summary. The HTTP API answers with the same fields. */
export const jobSchema: z.ZodType<Job> = z.discriminatedUnion('state', [
  z.object({ ...submitted, state: z.literal('queued') }),
  z.object({ ...started, state: z.literal('running'), isCancelling: z.boolean() }),
  z.object({ ...started, state: z.literal('done'), endedMs }),
  z.object({
    ...{ ...started, state: z.literal('failed'), endedMs },
    ...{ code: z.string(), exitCode: z.int(), reason: z.string() },
  }),
  z.object({
    ...submitted,
    state: z.literal('cancelled'),
    startedMs: startedMs.nullable(),
    endedMs,
  }),
]);

/** Schema of the summary in the `job.json` of a job that is done. */
export const summarySchema: z.ZodType<{ readonly report: Report }> = z.object({
  report: z.custom<Report>((it) => typeof it === 'object' && it !== null),
});

/** A job on disk that cannot be read. */
export interface DamagedJob {
  readonly id: string;
  /** The error, as one line that names the file. */
  readonly reason: string;
}

export const damagedSchema: z.ZodType<DamagedJob> = z.object({
  id: z.string(),
  reason: z.string(),
});

export interface LoadedJobs {
  readonly jobs: readonly Job[];
  readonly damaged: readonly DamagedJob[];
}

/**
 * The jobs on disk. Each job is a folder `<folder>/jobs/<id>` with a file `job.json`, which holds
 * the state of the job and is replaced atomically. Only one process may write at a time.
 */
export class JobStore {
  readonly #parent: string;
  readonly #folder: string;
  readonly #files: JobFiles;

  constructor(folder: string, files: JobFiles) {
    this.#parent = folder;
    this.#folder = join(folder, 'jobs');
    this.#files = files;
  }

  folderOf(id: string): string {
    return join(this.#folder, id);
  }

  /**
   * Reads all jobs, in order of submission. The result has a separate list of damaged jobs; their
   * files stay unchanged. Folders without `job.json` count in two ways:
   *
   * - A folder that is empty, or has only `job.json.new`, is no job. Its submission was interrupted
   *   before the client received the name of the job, so the next submission reuses the name.
   * - A folder with other files is a damaged job.
   *
   * @throws PodError `io` when the folder of jobs cannot be read.
   */
  load(): LoadedJobs {
    const names = attempt(`${this.#folder}: could not be read`, () => {
      this.#files.makeDirectory(this.#folder);
      this.#files.syncDirectory(this.#parent);
      return this.#files.names(this.#folder);
    });
    const numbers = names.flatMap((name) => numberOf(name) ?? []).sort((a, b) => a - b);
    const loaded: { jobs: Job[]; damaged: DamagedJob[] } = { jobs: [], damaged: [] };
    for (const id of numbers.map(jobName)) {
      try {
        loaded.jobs.push(...this.#loadOne(id));
      } catch (error) {
        if (!(error instanceof PodError)) throw error;
        loaded.damaged.push({ id, reason: error.message });
      }
    }
    return loaded;
  }

  #loadOne(id: string): Job[] {
    const path = this.#path(id);
    const text = this.#read(id);
    if (text === undefined) {
      this.#refuseLeft(id);
      return [];
    }
    const job = parsed(path, text, jobSchema);
    if (job.id === id) return [job];
    throw new PodError(
      'bad-data',
      `${path}: the file is damaged: id: expected ${id}, found ${job.id}`,
    );
  }

  /**
   * Called for a job folder without `job.json`. Throws PodError `bad-data` if the folder contains a
   * file other than `job.json.new`: such a job has lost its `job.json`. An interrupted submission
   * leaves no file or only `job.json.new`.
   */
  #refuseLeft(id: string): void {
    const path = this.#path(id);
    const names = attempt(`${path}: could not be read`, () => this.#files.names(this.folderOf(id)));
    const left = names.find((name) => name !== 'job.json.new');
    if (left === undefined) return;
    throw new PodError(
      'bad-data',
      `${path}: the job is damaged: this file is missing, but ${left} exists`,
    );
  }

  /**
   * Writes the current state of a job, and the summary of a job that is done. The new state
   * survives a loss of power once `write` has returned.
   *
   * @throws PodError `io` when the file cannot be written. The previous state then stays on disk.
   */
  write(job: Job, report?: Report): void {
    const folder = this.folderOf(job.id);
    const path = this.#path(job.id);
    attempt(`${path}: could not be written`, () => {
      const isNew = this.#files.read(path) === undefined;
      if (isNew) this.#files.makeDirectory(folder);
      this.#files.write(`${path}.new`, `${JSON.stringify({ ...job, report })}\n`);
      this.#files.rename(`${path}.new`, path);
      this.#files.syncDirectory(folder);
      if (isNew) this.#files.syncDirectory(this.#folder);
    });
  }

  /**
   * Reads the summary of a job that is done. Throws PodError `io` when the file cannot be read,
   * `bad-data` when it is damaged.
   */
  readReport(id: string): Report {
    return parsed(this.#path(id), this.#read(id) ?? '', summarySchema).report;
  }

  #read(id: string): string | undefined {
    return attempt(`${this.#path(id)}: could not be read`, () => this.#files.read(this.#path(id)));
  }

  #path(id: string): string {
    return join(this.folderOf(id), 'job.json');
  }
}

/**
 * Runs `work`, which reads or writes files. If `work` throws an error of the operating system,
 * throws PodError `io` instead, with a message that begins with `what`.
 */
export function attempt<T>(what: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (!isSystemError(error)) throw error;
    throw new PodError('io', `${what}: ${error.message}`, error);
  }
}

function parsed<T>(path: string, text: string, schema: z.ZodType<T>): T {
  const result = schema.safeParse(parseJson(text));
  if (result.success) return result.data;
  throw new PodError('bad-data', `${path}: the file is damaged: ${mismatch(result.error)}`);
}
