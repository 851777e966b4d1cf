import { lockDirectory } from '../../cluster/host/lock.ts';
import { openCheckpoints } from '../experiment/checkpoint/checkpoints.ts';
import type { CheckpointPlan } from '../experiment/checkpoint/keeper.ts';
import type { CheckpointOptions } from './options.ts';

/**
 * Opens the folder of a run's checkpoints and, if the folder exists, locks it for this process. The
 * lock is a flock(2), which writes nothing to the disk. Where flock(2) is not available, the lock
 * is a file in the folder. `use` names the command in messages, such as `pod train`.
 *
 * @throws PodError `in-use` if another run has locked the folder, `io` if the folder cannot be
 * read.
 */
export async function openPlan(options: CheckpointOptions, use: string): Promise<CheckpointPlan> {
  const { directory, every, keep, resume } = options;
  const lock = (folder: string) => lockDirectory(folder, use);
  return { checkpoints: await openCheckpoints(directory, { keep, lock }), every, resume };
}
