import { join } from 'node:path';
import { CommanderError } from 'commander';
import type { Report } from '../../src/experiment/event.ts';
import { assert } from '../../src/numerics/assert.ts';
import { PodError } from '../../src/numerics/error.ts';
import { oneLine, quote } from '../../src/numerics/quote.ts';
import { type JobFiles, nodeJobFiles } from './job-files.ts';
import { JobLog, type LogPiece } from './job-log.ts';
import {
  type DamagedJob,
  hasEnded,
  type Job,
  JobStore,
  jobName,
  numberOf,
  type RunningJob,
} from './jobs.ts';

/** What runs a job is told of it. */
export interface JobToRun {
  readonly id: string;
  /** Flags of `pod train`. */
  readonly words: readonly string[];
  /** Its own, where it keeps what it needs to go on after the master was killed. */
  readonly folder: string;
}

export interface JobHooks {
  /** Adds a line to the job's log. Throws PodError `io` when the disk does not take it. */
  readonly log: (line: Readonly<Record<string, unknown>>) => void;
  /** Asked after every step: whether to end. */
  readonly shouldStop: () => boolean;
}

/** How a job's run ended: done, or stopped after this step because it was asked to. */
export type JobOutcome =
  | { readonly kind: 'done'; readonly report: Report }
  | { readonly kind: 'stopped'; readonly step: number };

/**
 * Runs one job to its end, or goes on with one that was begun. Resolves to how it ended; never
 * rejects for what a user did.
 *
 * @throws PodError when the job failed.
 */
export type RunJob = (job: JobToRun, hooks: JobHooks) => Promise<JobOutcome>;

/**
 * Checks flags without running anything, and gives those that the job keeps: the same, or the same
 * things said so that nothing which changes later has a part in them. Throws PodError or CommanderError.
 */
export type CheckJob = (words: readonly string[]) => readonly string[];

export interface JobServerOptions {
  /** A folder that is there. Jobs are kept in `jobs` in it. */
  readonly folder: string;
  readonly run: RunJob;
  readonly check: CheckJob;
  /** Wall time in ms since 1970. */
  readonly now: () => number;
  /** The master's own log. */
  readonly log: (msg: string, fields: Readonly<Record<string, unknown>>) => void;
  readonly files?: JobFiles;
}

/** How many may wait. */
export const queueMax = 1000;
/** The most bytes of a job's words as JSON. */
export const wordsBytesMax: number = 2 ** 14;

/**
 * Takes jobs, and runs them one at a time in the order in which they were submitted. Whatever it
 * says has happened is on disk: a master that is killed and started again has the same list, goes
 * on with the job that ran, and then with those that wait.
 */
export class JobServer {
  readonly #options: JobServerOptions;
  readonly #files: JobFiles;
  readonly #store: JobStore;
  /** All, in order. */
  readonly #jobs: Map<string, Job> = new Map();
  /** Jobs that have not ended, in order; the first one runs. */
  readonly #unfinished: Set<string> = new Set();
  readonly #watchers: Map<string, Set<() => void>> = new Map();
  #damaged: readonly DamagedJob[] = [];
  #lastNumber = 0;
  #wake: () => void = () => {};
  #isStopping = false;
  #ended: Promise<void> = Promise.resolve();

  constructor(options: JobServerOptions) {
    this.#options = options;
    this.#files = options.files ?? nodeJobFiles;
    this.#store = new JobStore(options.folder, this.#files);
  }

  /**
   * Reads what there is, and begins to work. Once, and before anything else.
   *
   * @throws PodError `io` when the folder of jobs cannot be read.
   */
  start(): void {
    const { jobs, damaged } = this.#store.load();
    this.#damaged = damaged;
    for (const { id, reason } of damaged) {
      // Its number is not given again, so nothing is written over it.
      this.#lastNumber = Math.max(this.#lastNumber, numberOf(id) ?? 0);
      this.#options.log('job-damaged', { id, reason });
    }
    for (const job of jobs) {
      this.#remember(job);
      if (job.state === 'running' && job.isCancelling) this.#cancelled(job);
    }
    this.#ended = this.#work();
  }

  /**
   * Settles when it has stopped, or could not go on.
   *
   * @throws PodError `io` when the disk no longer takes how jobs end.
   */
  get ended(): Promise<void> {
    return this.#ended;
  }

  /** The job that runs ends after its present step, and the next start goes on with it. */
  stop(): Promise<void> {
    this.#isStopping = true;
    this.#wake();
    return this.#ended;
  }

  /**
   * Queues a job; once this returns it is not lost.
   *
   * @throws PodError as the check of its flags does, `too-large`, `too-many`, or `io`.
   */
  submit(words: readonly string[]): Job {
    const bytes = Buffer.byteLength(JSON.stringify(words));
    if (bytes > wordsBytesMax) {
      throw new PodError('too-large', `flags: expected ${wordsBytesMax} bytes, found ${bytes}`);
    }
    const kept = this.#check(words);
    if (this.#unfinished.size >= queueMax) {
      throw new PodError('too-many', `${queueMax} jobs are waiting; try again when one has ended`);
    }
    const id = jobName(this.#lastNumber + 1);
    const job: Job = { id, words: kept, submittedMs: this.#options.now(), state: 'queued' };
    this.#put(job);
    this.#wake();
    return job;
  }

  /** All jobs, in the order in which they were submitted. */
  list(): Job[] {
    return [...this.#jobs.values()];
  }

  /** Jobs that are on disk and cannot be read. */
  listDamaged(): readonly DamagedJob[] {
    return this.#damaged;
  }

  /** Throws PodError `no-such-job`, or `bad-data` when it is damaged. */
  find(id: string): Job {
    const job = this.#jobs.get(id);
    if (job !== undefined) return job;
    const damaged = this.#damaged.find((it) => it.id === id);
    if (damaged !== undefined) throw new PodError('bad-data', damaged.reason);
    throw new PodError(
      'no-such-job',
      `there is no job ${quote(id)}; pod jobs lists those there are`,
    );
  }

  /** The summary of a job; undefined while it is not done. Throws PodError `no-such-job` or `io`. */
  report(id: string): Report | undefined {
    return this.find(id).state === 'done' ? this.#store.readReport(id) : undefined;
  }

  /**
   * A job that waits is cancelled at once, one that runs after its present step.
   *
   * @throws PodError `no-such-job`, `job-ended` when there is nothing to cancel, or `io`.
   */
  cancel(id: string): Job {
    const job = this.find(id);
    if (hasEnded(job)) throw new PodError('job-ended', `${id} has ended already: ${job.state}`);
    if (job.state === 'queued') return this.#cancelled(job);
    if (job.isCancelling) return job;
    return this.#put({ ...job, isCancelling: true });
  }

  /** The part of a job's log from byte `offset` on. Throws PodError `no-such-job` or `io`. */
  readLog(id: string, offset: number): LogPiece {
    return this.#logOf(this.find(id).id).read(offset);
  }

  /** Calls `changed` whenever a job's log has grown or its state has changed, until it is told not to. */
  watch(id: string, changed: () => void): () => void {
    const watchers = this.#watchers.get(id) ?? new Set();
    this.#watchers.set(id, watchers.add(changed));
    return () => {
      watchers.delete(changed);
      if (watchers.size === 0 && this.#watchers.get(id) === watchers) this.#watchers.delete(id);
    };
  }

  async #work(): Promise<void> {
    while (!this.#isStopping) {
      const job = this.#first();
      if (job === undefined) await this.#woken();
      else await this.#run(job);
    }
  }

  /** Nobody is made to wait by this: there is nothing to do. */
  #woken(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }

  #first(): Job | undefined {
    const [id] = this.#unfinished;
    return id === undefined ? undefined : this.#jobs.get(id);
  }

  async #run(job: Job): Promise<void> {
    assert(!hasEnded(job), `${job.id} is ${job.state} and was to run`);
    const { id, words } = job;
    const log = this.#logOf(id);
    log.open();
    const running: RunningJob =
      job.state === 'running'
        ? job
        : { ...job, state: 'running', startedMs: this.#options.now(), isCancelling: false };
    if (job.state === 'queued') this.#put(running);
    this.#options.log(job.state === 'queued' ? 'job-started' : 'job-resumed', { id });
    const hooks: JobHooks = {
      log: (line) => {
        log.append({ time: this.#options.now(), ...line });
        this.#changed(id);
      },
      shouldStop: () => this.#isStopping || this.#isCancelling(id),
    };
    let outcome: JobOutcome;
    try {
      outcome = await this.#options.run({ id, words, folder: this.#store.folderOf(id) }, hooks);
    } catch (error) {
      this.#failed(running, log, error);
      return;
    }
    if (outcome.kind === 'done') this.#done(running, outcome.report);
    else this.#stopped(running, outcome.step);
  }

  #done({ isCancelling: _, ...job }: RunningJob, report: Report): void {
    this.#put({ ...job, state: 'done', endedMs: this.#options.now() }, report);
  }

  #stopped(job: RunningJob, step: number): void {
    if (this.#isCancelling(job.id)) {
      this.#cancelled(job);
      return;
    }
    assert(this.#isStopping, `${job.id} stopped at step ${step} and nobody had asked`);
    this.#options.log('job-interrupted', { id: job.id, step });
  }

  /** What is our mistake is not tried again by the next master, and ends this one. */
  #failed({ isCancelling: _, ...job }: RunningJob, log: JobLog, error: unknown): void {
    const endedMs = this.#options.now();
    const known = error instanceof PodError ? error : undefined;
    const { code, exitCode } = known ?? { code: 'mistake', exitCode: 1 };
    const reason = oneLine(known?.message ?? String(error));
    log.append({ time: endedMs, level: 50, msg: 'job-failed', code, reason });
    if (this.#isCancelling(job.id)) this.#cancelled(job);
    else if (this.#isStopping && exitCode === lossExitCode) {
      // Workers that are told to end with the master are no failure of the job.
      this.#options.log('job-interrupted', { id: job.id, code, reason });
    } else this.#put({ ...job, state: 'failed', endedMs, code, exitCode, reason });
    if (known === undefined) throw error;
  }

  #cancelled({ id, words, submittedMs, ...job }: Unfinished): Job {
    const startedMs = job.startedMs ?? null;
    const endedMs = this.#options.now();
    return this.#put({ id, words, submittedMs, state: 'cancelled', startedMs, endedMs });
  }

  #isCancelling(id: string): boolean {
    const job = this.#jobs.get(id);
    return job?.state === 'running' && job.isCancelling;
  }

  #check(words: readonly string[]): readonly string[] {
    try {
      return this.#options.check(words);
    } catch (error) {
      if (!(error instanceof CommanderError)) throw error;
      const found = error.exitCode === 0 ? 'a question for help' : error.message;
      throw new PodError('bad-flag', `flags of a job: ${found.replace(/^error: /, '')}`, error);
    }
  }

  /** On disk first: what others see has happened. */
  #put(job: Job, report?: Report): Job {
    this.#store.write(job, report);
    this.#remember(job);
    if (hasEnded(job)) this.#options.log(`job-${job.state}`, { id: job.id });
    this.#changed(job.id);
    return job;
  }

  #remember(job: Job): void {
    this.#jobs.set(job.id, job);
    if (hasEnded(job)) this.#unfinished.delete(job.id);
    else this.#unfinished.add(job.id);
    this.#lastNumber = Math.max(this.#lastNumber, numberOf(job.id) ?? 0);
  }

  #changed(id: string): void {
    for (const changed of this.#watchers.get(id) ?? []) changed();
  }

  #logOf(id: string): JobLog {
    return new JobLog(join(this.#store.folderOf(id), 'log.jsonl'), this.#files);
  }
}

type Unfinished = Pick<Job, 'id' | 'words' | 'submittedMs'> & { readonly startedMs?: number };

/** Exit code of errors that say that a Cloud TPU was lost, or that the run cannot go on. */
const lossExitCode = 3;
