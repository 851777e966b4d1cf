import { join } from 'node:path';
import { z } from 'zod';
import type { Report } from '../../src/experiment/event.ts';
import { mismatch } from '../../src/files/mismatch.ts';
import { isSystemError } from '../../src/files/system-error.ts';
import { PodError } from '../../src/numerics/error.ts';
import type { JobFiles } from './job-files.ts';

/**
 * A job and how far it has come. Times are in ms since 1970. Its summary is on disk only: that of
 * a whole pod is long.
 */
export type Job = QueuedJob | RunningJob | DoneJob | FailedJob | CancelledJob;
export type JobState = Job['state'];

interface Submitted {
  /** `job-1`, `job-2`: in the order in which they were submitted. */
  readonly id: string;
  /** Flags of `pod train`. */
  readonly words: readonly string[];
  readonly submittedMs: number;
}

export interface QueuedJob extends Submitted {
  readonly state: 'queued';
}

export interface RunningJob extends Submitted {
  readonly state: 'running';
  /** When it was begun first: a master that is started again goes on with it. */
  readonly startedMs: number;
  /** It was asked to end, and has not ended yet. */
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
  /** Code of the error, and the exit code that `pod train` would have had. */
  readonly code: string;
  readonly exitCode: number;
  /** One line. */
  readonly reason: string;
}

export interface CancelledJob extends Submitted {
  readonly state: 'cancelled';
  /** null when it never ran. */
  readonly startedMs: number | null;
  readonly endedMs: number;
}

/** Whether nothing happens to it any more. */
export function hasEnded(job: Job): job is DoneJob | FailedJob | CancelledJob {
  return job.state !== 'queued' && job.state !== 'running';
}

export function jobName(number: number): string {
  return `job-${number}`;
}

/** The number of a job's name, from 1; undefined when it is none. */
export function numberOf(id: string): number | undefined {
  const number = Number(/^job-(\d{1,9})$/.exec(id)?.[1]);
  return number >= 1 && jobName(number) === id ? number : undefined;
}

/** Until the end of the year 9999: what can be written as a date of four digits. */
const wallMs = z.number().min(0).max(253_402_300_799_999);
const submitted = { id: z.string(), words: z.array(z.string()), submittedMs: wallMs };
const startedMs = wallMs;
const endedMs = wallMs;
const started = { ...submitted, startedMs };

/** The contents of `job.json`. The API answers with the same, and adds the summary. */
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

/** The summary of a job that is done. */
export const summarySchema: z.ZodType<{ readonly report: Report }> = z.object({
  report: z.custom<Report>((it) => typeof it === 'object' && it !== null),
});

/** A job that is on disk and cannot be read. */
export interface DamagedJob {
  readonly id: string;
  /** One line that names the file. */
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
 * Jobs on disk: each is a folder `<folder>/jobs/<id>` with `job.json`, which is there whole or not
 * at all, and which is what counts. One process writes to them at a time.
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
   * All jobs in order, and those that cannot be read: one that is damaged takes no others along, and
   * stays as it is. A folder with nothing in it is of a submission that was interrupted: nobody
   * was told of it, and the next one takes its place.
   *
   * @throws PodError `io` when the folder of all cannot be read.
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
    throw new PodError('bad-data', `${path}: it is damaged: id: expected ${id}, found ${job.id}`);
  }

  /** A job that has lost its `job.json` is no submission that was interrupted. */
  #refuseLeft(id: string): void {
    const path = this.#path(id);
    const names = attempt(`${path}: could not be read`, () => this.#files.names(this.folderOf(id)));
    const left = names.find((name) => name !== 'job.json.new');
    if (left === undefined) return;
    throw new PodError('bad-data', `${path}: it is damaged: it is missing, and ${left} is there`);
  }

  /**
   * Writes down a job as it is now; a summary goes with one that is done. Once this returns it
   * outlasts a loss of power.
   *
   * @throws PodError `io` when the disk does not take it; what was written before is left.
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

  /** The summary of a job that is done. Throws as {@link load} does. */
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

/** Does something with files; an error of the system is said in one line of ours. */
export function attempt<T>(what: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (!isSystemError(error)) throw error;
    throw new PodError('io', `${what}: ${error.message}`, error);
  }
}

function parsed<T>(path: string, text: string, schema: z.ZodType<T>): T {
  const result = schema.safeParse(json(text));
  if (result.success) return result.data;
  throw new PodError('bad-data', `${path}: it is damaged: ${mismatch(result.error)}`);
}

function json(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
