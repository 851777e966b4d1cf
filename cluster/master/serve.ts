import { join } from 'node:path';
import { CommanderError } from 'commander';
import type { Report } from '../../src/experiment/event.ts';
import { assert } from '../../src/numerics/assert.ts';
import { PodError } from '../../src/numerics/error.ts';
import { oneLine, quote } from '../../src/numerics/quote.ts';
import { limits } from '../limits.ts';
import { type JobFiles, nodeJobFiles } from './job-files.ts';
import { JobLog, type LogPiece } from './job-log.ts';
import {
  type DamagedJob,
  type EndedJob,
  hasEnded,
  type Job,
  JobStore,
  jobName,
  numberOf,
  type RunningJob,
} from './jobs.ts';

/** The data of a job that the function {@link RunJob} receives. */
export interface JobToRun {
  readonly id: string;
  /** Flags of the job, as for `pod train`. */
  readonly words: readonly string[];
  /**
   * Folder of the job, with its commit log and checkpoints. Another master needs them to continue
   * the job.
   */
  readonly folder: string;
}

export interface JobHooks {
  /** Appends a line to the job's log. Throws PodError `io` when the line cannot be written. */
  readonly log: (line: Readonly<Record<string, unknown>>) => void;
  /** Called before every step. Returns true if the job must end before that step. */
  readonly shouldStop: () => boolean;
}

/**
 * How the run of a job ended. `done`: the job is complete. `stopped`: `shouldStop` returned true,
 * so the run ended after step `step`.
 */
export type JobOutcome =
  | { readonly kind: 'done'; readonly report: Report }
  | { readonly kind: 'stopped'; readonly step: number };

/**
 * Runs a job, or continues a job that an earlier master began. Resolves to the outcome. If the user
 * cancels the job, the outcome is `stopped`.
 *
 * @throws PodError when the job failed.
 */
export type RunJob = (job: JobToRun, hooks: JobHooks) => Promise<JobOutcome>;

/**
 * Checks the flags of a submitted job. Returns the flags to store for the job. They mean the same,
 * but do not refer to a file of settings, which may change before the job runs. Throws PodError or
 * CommanderError when the flags are wrong.
 */
export type CheckJob = (words: readonly string[]) => readonly string[];

export interface JobServerOptions {
  /** An existing folder. The jobs are in its subfolder `jobs`. */
  readonly folder: string;
  readonly run: RunJob;
  readonly check: CheckJob;
  /** Returns wall time, in ms since 1970. */
  readonly now: () => number;
  /** Writes a line to the master's own log. */
  readonly log: (msg: string, fields: Readonly<Record<string, unknown>>) => void;
  /** Called when a job has ended, with its final state. */
  readonly ended?: (state: EndedJob['state']) => void;
  readonly files?: JobFiles;
}

/** Maximum number of bytes of a job's flags as JSON. */
export const wordsBytesMax: number = 2 ** 14;

/**
 * Queues jobs, and runs them one at a time in order of submission. Every change of a job is written
 * to disk before a client sees the change. So a master that is killed and started again has the
 * same jobs. It continues the job that was running, then runs the queued jobs.
 */
export class JobServer {
  readonly #options: JobServerOptions;
  readonly #files: JobFiles;
  readonly #store: JobStore;
  /** All jobs by id, in order of submission. */
  readonly #jobs: Map<string, Job> = new Map();
  /**
   * Ids of the jobs that have not ended, in order of submission. The first one is the job that is
   * running, or that runs next.
   */
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
   * Loads the jobs on disk and begins to run them. Must be called once, before any other method.
   *
   * @throws PodError `io` when the folder of jobs cannot be read.
   */
  start(): void {
    const { jobs, damaged } = this.#store.load();
    this.#damaged = damaged;
    for (const { id, reason } of damaged) {
      // New jobs get larger numbers than all damaged jobs. With the number of a damaged job, a new
      // job would overwrite the files of that job.
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
   * Resolves when the server has stopped. Rejects with PodError `io` when the state or the log of a
   * job cannot be written. Also rejects with an error that shows a mistake in this program.
   */
  get ended(): Promise<void> {
    return this.#ended;
  }

  /**
   * Stops the server. The running job stops after its current step. A server that is started later
   * continues the job.
   */
  stop(): Promise<void> {
    this.#isStopping = true;
    this.#wake();
    return this.#ended;
  }

  /**
   * Queues a job. The job is on disk when `submit` returns.
   *
   * @throws PodError `too-large` for too many bytes of flags, `too-many` for a full queue, `io`
   *   when the job cannot be written, or the error of `JobServerOptions.check`.
   */
  submit(words: readonly string[]): Job {
    const bytes = Buffer.byteLength(JSON.stringify(words));
    if (bytes > wordsBytesMax) {
      throw new PodError(
        'too-large',
        `flags: expected at most ${wordsBytesMax} bytes, found ${bytes}`,
      );
    }
    const kept = this.#check(words);
    if (this.#unfinished.size >= limits.queueMax) {
      throw new PodError(
        'too-many',
        `${limits.queueMax} jobs are waiting; try again when one has ended`,
      );
    }
    const id = jobName(this.#lastNumber + 1);
    const job: Job = { id, words: kept, submittedMs: this.#options.now(), state: 'queued' };
    this.#put(job);
    this.#wake();
    return job;
  }

  /** Returns all jobs whose files on disk can be read, in order of submission. */
  list(): Job[] {
    return [...this.#jobs.values()];
  }

  /** Returns the jobs on disk that cannot be read. */
  listDamaged(): readonly DamagedJob[] {
    return this.#damaged;
  }

  /** Returns a job. Throws PodError `no-such-job`, or `bad-data` if the job is damaged. */
  find(id: string): Job {
    const job = this.#jobs.get(id);
    if (job !== undefined) return job;
    const damaged = this.#damaged.find((it) => it.id === id);
    if (damaged !== undefined) throw new PodError('bad-data', damaged.reason);
    throw new PodError('no-such-job', `there is no job ${quote(id)}; pod jobs lists the jobs`);
  }

  /**
   * Returns the summary of a job; undefined unless the job is done. Throws PodError `no-such-job`,
   * `io`, or `bad-data` if the job is damaged.
   */
  report(id: string): Report | undefined {
    return this.find(id).state === 'done' ? this.#store.readReport(id) : undefined;
  }

  /**
   * Cancels a job. A queued job ends at once, a running job after its current step.
   *
   * @throws PodError `no-such-job`, `job-ended` if the job has ended already, `bad-data` if the job
   *   is damaged, or `io` when the new state cannot be written.
   */
  cancel(id: string): Job {
    const job = this.find(id);
    if (hasEnded(job)) throw new PodError('job-ended', `${id} has ended already: ${job.state}`);
    if (job.state === 'queued') return this.#cancelled(job);
    if (job.isCancelling) return job;
    return this.#put({ ...job, isCancelling: true });
  }

  /**
   * Returns the part of a job's log from byte `offset` on. Throws PodError `no-such-job`, `io`, or
   * `bad-data` if the job is damaged.
   */
  readLog(id: string, offset: number): LogPiece {
    return this.#logOf(this.find(id).id).read(offset);
  }

  /**
   * Calls `changed` whenever a job's log has grown or its state has changed. Returns a function
   * that ends these calls.
   */
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

  /**
   * Called while the queue is empty. Resolves when a job is submitted or the server stops. Needs no
   * deadline, because no job is waiting.
   */
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

  /**
   * Called when the run of a job has ended with an error. The job gets one of three states:
   *
   * - If the user has cancelled the job, it is recorded as cancelled.
   * - If this server is stopping and the job has lost its workers, the job stays unfinished, and
   *   the next master continues it.
   * - In all other cases the job is recorded as failed, so that no master runs it again.
   *
   * If the error is not a PodError, it shows a mistake in this program. It is then thrown again,
   * which ends this master.
   */
  #failed({ isCancelling: _, ...job }: RunningJob, log: JobLog, error: unknown): void {
    const endedMs = this.#options.now();
    const known = error instanceof PodError ? error : undefined;
    const { code, exitCode } = known ?? { code: 'mistake', exitCode: 1 };
    const reason = oneLine(known?.message ?? String(error));
    log.append({ time: endedMs, level: 50, msg: 'job-failed', code, reason });
    if (this.#isCancelling(job.id)) this.#cancelled(job);
    else if (this.#isStopping && exitCode === lossExitCode) {
      // A signal that ends the master often ends the workers too. So the job has not failed: the
      // next master continues it.
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
      const found = error.exitCode === 0 ? 'a request for help' : error.message;
      throw new PodError('bad-flag', `flags of a job: ${found.replace(/^error: /, '')}`, error);
    }
  }

  /** Changes a job on disk, then in memory, so that clients see only changes that are on disk. */
  #put(job: Job, report?: Report): Job {
    this.#store.write(job, report);
    this.#remember(job);
    if (hasEnded(job)) {
      this.#options.log(`job-${job.state}`, { id: job.id });
      this.#options.ended?.(job.state);
    }
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

/** Exit code of `pod train` for lost Cloud TPUs and other failures of a run. */
const lossExitCode = 3;
