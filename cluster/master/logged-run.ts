import type { CheckpointPlan } from '../../src/experiment/checkpoint/keeper.ts';
import type { TrainConfig } from '../../src/experiment/config.ts';
import type { Report } from '../../src/experiment/event.ts';
import { type TrainWorld, train } from '../../src/experiment/train.ts';
import { PodError } from '../../src/numerics/error.ts';
import type { Pod, PodOptions } from '../../src/pod/pod.ts';
import { isFinal } from '../final.ts';
import type { CommitLog } from './commit-log.ts';

/** How a run ended. */
export type JobEnd =
  | { readonly kind: 'done'; readonly report: Report }
  | { readonly kind: 'stopped'; readonly step: number };

/** What a master provides for a run whose commits it writes to a log. */
export interface LoggedWorld
  extends Pick<TrainWorld, 'tell' | 'now' | 'opened' | 'programs' | 'shouldStop'> {
  readonly commits: Pick<CommitLog, 'past' | 'beginGeneration' | 'commit' | 'finish'>;
  /** Plan for the checkpoints of the run; undefined for a run without checkpoints. */
  readonly plan: CheckpointPlan | undefined;
  /** Called with the number of each membership: of the first one too. */
  readonly began: (generation: number) => void;
  /**
   * Opens the pod. The pod calls `keepsWorkers` when it closes. If `keepsWorkers` returns true, the
   * workers keep their parameters, and a next master can use them.
   */
  readonly openPod: (options: PodOptions, keepsWorkers: () => boolean) => Promise<Pod>;
}

/**
 * If the log says that the run is complete, returns the end of the run. Returns undefined if the
 * run must go on.
 *
 * @throws PodError the error in the log, if the log says that the run has failed for good.
 */
export function endInLog({
  failed,
  finished,
}: Pick<CommitLog, 'failed' | 'finished'>): JobEnd | undefined {
  if (failed !== null) throw new PodError(failed.code, failed.message);
  return finished === null ? undefined : { kind: 'done', report: finished };
}

/**
 * Called with the error that ended a run. If a next master would fail with the same error, writes
 * the error to the log, unless the log has such an error already. The run has then failed for good.
 */
export function recordFailure(commits: Pick<CommitLog, 'failed' | 'fail'>, error: unknown): void {
  if (commits.failed === null && isFinal(error)) commits.fail(error.code, error.message);
}

/**
 * Trains a run, beginning with the step after the last one in the commit log. Writes each commit,
 * each membership and the report to the log.
 *
 * @throws PodError as `train` does; `io` if the log cannot be written or the last checkpoint was
 *   not saved; `superseded` if a newer master leads the run.
 */
export async function trainLogged(config: TrainConfig, world: LoggedWorld): Promise<JobEnd> {
  const { commits, plan, began, openPod, ...rest } = world;
  const past = commits.past();
  let generation = past.generation + 1;
  began(generation);
  let isLost = false;
  const end = await train(config, {
    ...rest,
    past,
    openPod: (options) => openPod(options, () => isLost),
    onMembership(next) {
      commits.beginGeneration(next);
      generation = next;
      began(next);
    },
    commit(step) {
      // If `commits.commit` throws, `isLost` stays true, and this pod closes. It then does not end
      // its workers. They keep the parameters in memory for the next master, which runs this step
      // again.
      isLost = true;
      commits.commit(step, generation);
      isLost = false;
    },
    ...(plan && { checkpoints: plan }),
  });
  if (end.kind === 'stopped') return end;
  if (end.unsaved !== undefined) throw end.unsaved;
  commits.finish(end.report);
  return end;
}
