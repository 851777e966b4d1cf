import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { openPlan } from '../../src/cli/checkpoint-plan.ts';
import type { TrainOptions } from '../../src/cli/options.ts';
import type { CheckpointPlan } from '../../src/experiment/checkpoint/keeper.ts';
import type { TrainConfig } from '../../src/experiment/config.ts';
import { type OpenedRun, openRun } from '../../src/experiment/open-run.ts';
import { differenceBetween, keyOf, type RunKey, readKey } from '../../src/experiment/same-run.ts';
import { PodError } from '../../src/numerics/error.ts';
import type { PodOptions } from '../../src/pod/pod.ts';
import { failed, type PodEvent } from '../../src/run/event.ts';
import type { RunStream } from '../../src/run/stream.ts';
import { isOfEndedWorkers } from '../final.ts';
import type { Lobby } from '../process/lobby.ts';
import { openProcessPod, type ProcessPod, type ProcessPodOptions } from '../process/pod.ts';
import { type Abandoned, type CommitLog, openCommitLog } from './commit-log.ts';
import { endInLog, type JobEnd, recordFailure, trainLogged } from './logged-run.ts';

/**
 * A run, with its options and everything that the master provides for the run. `lobby` is the place
 * to which worker processes connect, and from which the run takes its workers.
 */
export interface Job {
  readonly options: TrainOptions;
  /** Folder of the commit log. */
  readonly folder: string;
  readonly lobby: Lobby;
  /** Stream of the events of the run. */
  readonly stream: RunStream;
  /**
   * Longest time, in ms, that the master waits for a replacement of a lost worker to join. After
   * that time another worker hosts the lost Cloud TPU too.
   */
  readonly graceMsLimit: number;
  /**
   * How the master learns that a worker is lost. True: the workers are processes of this machine,
   * so the master also notices the end of a process. False: the master notices only the end of a
   * worker's connection.
   */
  readonly isWatched: boolean;
  /**
   * Called before every step. If it returns true, the run ends before that step. A run that has
   * checkpoints then saves one.
   */
  readonly shouldStop: () => boolean;
  /**
   * Told about the pod: when it begins to wait for workers, when steps can run, and when steps can
   * no longer run.
   */
  readonly watch: JobWatch;
  /**
   * Called before the first step, when the data has been read and the commit log is open. `key`
   * identifies the run. `continues` is true if an earlier master has begun this run. If the
   * function throws, the run ends with that error.
   */
  readonly known?: (key: RunKey, continues: boolean) => void;
}

export interface JobWatch {
  /** Called with the pod when the pod begins to wait for its workers. */
  gathering(pod: ProcessPod): void;
  /**
   * Called with the pod once steps can run on the pod. Called with undefined when steps can no
   * longer run.
   */
  pod(pod: ProcessPod | undefined): void;
}

/**
 * Longest time, in ms, for all workers to join. The workers then have the same time again to load
 * their programs.
 */
const startMsLimit = 120_000;

/** File name of the commit log in a job's folder. */
export const commitsFile = 'commits.jsonl';

/**
 * Runs a job until the job is done or `shouldStop` returns true. Tells all events of the job to
 * `job.stream`. If an earlier master began the job, continues after the last committed step. Each
 * commit is on disk before the next step begins.
 *
 * @throws PodError as `train` does. If the commit log says that the job has failed for good, throws
 *   the error in the log without running a step.
 */
export async function runJob(job: Job): Promise<JobEnd> {
  try {
    const opened = await openOnMaster(job.options.config);
    for (const note of opened.dataset.notes) tell(job, note, {}, 'warn');
    const key = keyOf(opened.identity);
    const commits = openCommitLog(join(job.folder, commitsFile), key);
    let end: JobEnd;
    try {
      job.known?.(key, commits.isContinued);
      tellFound(job, commits, key);
      end = await runLogged(job, opened, commits);
    } finally {
      job.watch.pod(undefined);
      commits.close();
    }
    if (end.kind === 'done') job.stream.tell({ kind: 'finished', report: end.report });
    return end;
  } catch (error) {
    job.stream.tell(failed(error));
    throw error;
  }
}

/** Runs a job whose commit log is open. */
async function runLogged(job: Job, opened: OpenedRun, commits: CommitLog): Promise<JobEnd> {
  try {
    const end = endInLog(commits);
    if (end !== undefined) return end;
    const { generation } = commits.past();
    tell(job, 'commits-found', { generation, step: commits.lastStep });
    return await run(job, opened, commits);
  } catch (error) {
    if (job.shouldStop() && isOfEndedWorkers(error)) return stoppedBySignal(job, opened, commits);
    recordFailure(commits, error);
    throw error;
  }
}

function stoppedBySignal({ stream }: Job, { identity }: OpenedRun, commits: CommitLog): JobEnd {
  const step = commits.lastStep;
  stream.tell({ kind: 'stopped', step, steps: identity.steps, saved: false });
  return { kind: 'stopped', step };
}

/** Tells an event of the cluster to the stream of the run. */
function tell(
  { stream }: Job,
  msg: string,
  fields: PodEvent['fields'],
  level: PodEvent['level'] = 'info',
): void {
  stream.tell({ kind: 'pod', level, msg, fields });
}

/**
 * If the commit log contains an unfinished run that this run replaces, tells so. If the log
 * contains damaged lines, tells so too.
 */
function tellFound(job: Job, commits: CommitLog, key: RunKey): void {
  const { abandoned, unreadable } = commits;
  if (abandoned !== null) tell(job, 'another-run', describeAbandoned(abandoned, key), 'warn');
  if (unreadable.length === 0) return;
  tell(job, describeUnreadable(commits), { lines: unreadable }, 'warn');
}

/**
 * Reads the data of a run. If a file or folder causes an error, adds to the message that paths are
 * those of the master's machine. The user may have thought of a file on another machine.
 */
async function openOnMaster(config: TrainConfig): Promise<OpenedRun> {
  try {
    return await openRun(config);
  } catch (error) {
    if (!(error instanceof PodError) || (error.code !== 'bad-data' && error.code !== 'io')) {
      throw error;
    }
    const where = "paths are those of the master's machine";
    throw new PodError(error.code, `${error.message} (${where})`, error);
  }
}

function describeUnreadable(commits: CommitLog): string {
  const { lastStep: step, unreadable } = commits;
  const { length } = unreadable;
  const lines = length === 1 ? '1 line was' : `${length} lines were`;
  return `${commitsFile}: ${lines} cut off or damaged; the run continues after step ${step}`;
}

/** Describes, for the log, an unfinished run that this run replaces. */
function describeAbandoned(
  { step, steps, key }: Abandoned,
  now: RunKey,
): Readonly<Record<string, unknown>> {
  const before = readKey(key);
  const difference = before && differenceBetween(before, now);
  const why =
    difference === undefined ? 'is a different run' : `has ${difference.is}, not ${difference.was}`;
  const cause = `an unfinished run, at step ${step} of ${steps}, is not continued: this run ${why}, and begins at its first step`;
  return { step, steps, cause };
}

async function run(job: Job, opened: OpenedRun, commits: CommitLog): Promise<JobEnd> {
  const { checkpoint } = job.options;
  const plan = checkpoint && (await openPlan(checkpoint, 'a master'));
  try {
    return await trainWith(job, { opened, commits, plan });
  } finally {
    plan?.checkpoints.close();
  }
}

interface Parts {
  readonly opened: OpenedRun;
  readonly commits: CommitLog;
  readonly plan: CheckpointPlan | undefined;
}

function trainWith(job: Job, { opened, commits, plan }: Parts): Promise<JobEnd> {
  const { options, stream, shouldStop, watch } = job;
  return trainLogged(options.config, {
    ...{ opened, commits, plan, shouldStop, now: () => performance.now() },
    tell: (event) => stream.tell(event),
    began(generation) {
      stream.generation = generation;
    },
    async openPod(podOptions, keepsWorkers) {
      const pod = await openProcessPod({ ...processOptions(job, podOptions), keepsWorkers });
      watch.pod(pod);
      return pod;
    },
  });
}

function processOptions(job: Job, options: PodOptions): ProcessPodOptions {
  const { lobby, graceMsLimit, isWatched, shouldStop, watch } = job;
  return {
    ...options,
    ...{ relaxed: job.options.relaxedSimd, lobby, startMsLimit, graceMsLimit, isWatched },
    shouldStop,
    gathering: (pod) => watch.gathering(pod),
    log: (msg, fields) => tell(job, msg, fields),
  };
}
