import { accessSync, constants, existsSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { checkPlan } from '../experiment/checkpoint/keeper.ts';
import { openRun } from '../experiment/open-run.ts';
import { PodError } from '../numerics/error.ts';
import { openPlan } from './checkpoint-plan.ts';
import type { CheckpointOptions, TrainOptions } from './options.ts';

/**
 * Refuses a run that its master would refuse as soon as it starts: data or weights that cannot be read,
 * and checkpoints in a folder that is in use, cannot be written to, or has those of another run.
 * Changes nothing on disk.
 *
 * @throws PodError as `train` does.
 */
export async function checkStart({ config, checkpoint }: TrainOptions): Promise<void> {
  const { identity } = await openRun(config);
  if (checkpoint === undefined) return;
  const plan = await openPlan(checkpoint, 'pod up');
  try {
    await checkPlan(plan, identity);
  } finally {
    plan.checkpoints.close();
  }
  checkWritable(checkpoint);
}

/** The folder itself, or the one in which it will be made. */
function checkWritable({ directory }: CheckpointOptions): void {
  const place = nearest(resolve(directory));
  try {
    accessSync(place, constants.W_OK | constants.X_OK);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new PodError('io', `${directory}: checkpoints could not be written: ${why}`, error);
  }
}

function nearest(path: string): string {
  return existsSync(path) || dirname(path) === path ? path : nearest(dirname(path));
}
