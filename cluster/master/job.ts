import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import type { Logger } from 'pino';
import type { TrainOptions } from '../../src/cli/options.ts';
import { openCheckpoints } from '../../src/experiment/checkpoint/checkpoints.ts';
import type { CheckpointPlan } from '../../src/experiment/checkpoint/keeper.ts';
import type { Report, StepCommitted } from '../../src/experiment/event.ts';
import { train } from '../../src/experiment/train.ts';
import { PodError } from '../../src/numerics/error.ts';
import { logEvent } from '../../src/observe/log.ts';
import type { Note } from '../../src/pod/master.ts';
import type { Lobby } from '../process/lobby.ts';
import { openProcessPod, type ProcessPod } from '../process/pod.ts';
import { CommitLog } from './commit-log.ts';

/** A run on the workers that wait in a lobby. */
export interface Job {
  readonly options: TrainOptions;
  /** Where its commits are logged. */
  readonly folder: string;
  readonly lobby: Lobby;
  readonly logger: Logger;
  readonly graceMsLimit: number;
  /** Asked after every step: whether to save, if there are checkpoints, and end. */
  readonly shouldStop: () => boolean;
  /** Told of the pod once steps can run, and of each step. */
  readonly watch: JobWatch;
}

export interface JobWatch {
  pod(pod: ProcessPod | undefined): void;
  step(step: StepCommitted): void;
  started(hbmBytesPerCore: number): void;
  note(note: Note): void;
}

/** How a run ended. */
export type JobEnd =
  | { readonly kind: 'done'; readonly report: Report }
  | { readonly kind: 'stopped'; readonly step: number };

const startMsLimit = 120_000;

/**
 * Runs a job to its end, or until it should stop. Every commit is on disk before the next step.
 *
 * @throws PodError as `train` does.
 */
export async function runJob(job: Job): Promise<JobEnd> {
  const { options, folder, lobby, logger, graceMsLimit, shouldStop, watch } = job;
  const { config, relaxedSimd } = options;
  const commits = new CommitLog(join(folder, 'commits.jsonl'), config);
  if (commits.last > 0) logger.info({ step: commits.last }, 'commits-found');
  let pod: ProcessPod | undefined;
  const checkpoints = await planOf(options);
  const events = train(config, {
    now: () => performance.now(),
    shouldStop,
    async openPod(podOptions) {
      pod = await openProcessPod({
        ...podOptions,
        ...{ relaxed: relaxedSimd, lobby, startMsLimit, graceMsLimit },
        log: (msg, fields) => logger.info(fields, msg),
        onNote(note) {
          logger.warn(note, note.event);
          watch.note(note);
          podOptions.onNote?.(note);
        },
      });
      watch.pod(pod);
      return pod;
    },
    ...(checkpoints && { checkpoints }),
  });
  let end: JobEnd = { kind: 'stopped', step: 0 };
  try {
    for await (const event of events) {
      const epoch = pod?.status().epoch;
      if (event.kind === 'started') watch.started(event.hbmBytesPerCore);
      if (event.kind === 'step') {
        commits.commit({ step: event.step, epoch: epoch ?? 1, digest: event.digest });
        watch.step(event);
      }
      if (event.kind === 'stopped') end = { kind: 'stopped', step: event.step };
      if (event.kind === 'finished') end = { kind: 'done', report: event.report };
      // Notes were logged when they came, and the summary is the last line of all.
      else if (event.kind !== 'note') {
        logEvent(logger.child(epoch === undefined ? {} : { epoch }), event);
      }
    }
  } finally {
    watch.pod(undefined);
    commits.close();
  }
  if (end.kind === 'done') writeReport(end.report, options);
  return end;
}

async function planOf({ checkpoint }: TrainOptions): Promise<CheckpointPlan | undefined> {
  if (checkpoint === undefined) return undefined;
  const { directory, every, keep, resume } = checkpoint;
  return { checkpoints: await openCheckpoints(directory, { keep }), every, resume };
}

function writeReport(report: Report, { report: file }: TrainOptions): void {
  if (file === undefined) return;
  try {
    writeFileSync(file, `${JSON.stringify(report, undefined, 2)}\n`);
  } catch (cause) {
    const why = (cause as Error).message;
    throw new PodError('io', `--report ${file}: could not be written: ${why}`, cause);
  }
}
