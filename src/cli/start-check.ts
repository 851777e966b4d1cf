import { accessSync, constants } from 'node:fs';
import { relative, resolve, sep } from 'node:path';
import { checkPlan } from '../experiment/checkpoint/keeper.ts';
import { openRun } from '../experiment/open-run.ts';
import { keyOf, type RunIdentity } from '../experiment/same-run.ts';
import { nearestExisting, realPath } from '../files/target.ts';
import { messageOf, PodError } from '../numerics/error.ts';
import { quoteName } from '../numerics/quote.ts';
import { openPlan } from './checkpoint-plan.ts';
import type { TrainOptions } from './options.ts';
import { isOfPod } from './pod-folder.ts';
import { ReportFile } from './report-file.ts';
import { RunFolder } from './run-folder.ts';
import { recordedStart } from './run-settings.ts';

/**
 * Checks, before a pod starts, what its master would check first. Refuses:
 *
 * - data or weights that cannot be read;
 * - a report that another run has locked;
 * - a folder of checkpoints that is in use, is not writable, or has checkpoints of another run;
 * - a folder of `--run` that is in use, is not writable, or has a record that the run does not
 *   continue;
 * - a report, a folder of `--run` or a folder of checkpoints whose path is `folder` (the folder of
 *   the pod) or the path of one of the pod's own files in that folder.
 *
 * Changes nothing on disk.
 *
 * @throws PodError with the code that `train` would throw.
 */
export async function checkStart(options: TrainOptions, folder: string): Promise<void> {
  const { config, checkpoint, report, run } = options;
  refuseOwn('--report', report, folder);
  refuseOwn('--checkpoint', checkpoint?.directory, folder);
  refuseOwn('--run', run, folder);
  if (report !== undefined) new ReportFile(report);
  const { identity } = await openRun(config);
  if (run !== undefined) checkRunFolder(run, options, identity);
  if (checkpoint === undefined) return;
  const plan = await openPlan(checkpoint, 'pod up');
  try {
    await checkPlan(plan, identity);
  } finally {
    plan.checkpoints.close();
  }
  checkWritable(checkpoint.directory, 'checkpoints');
}

/** Checks that the run may write to the folder of `--run`. Changes nothing on disk. */
function checkRunFolder(path: string, options: TrainOptions, identity: RunIdentity): void {
  const folder = new RunFolder({ path, use: 'pod up', onLoss: () => undefined });
  try {
    folder.check(recordedStart(options, keyOf(identity)));
  } finally {
    folder.end();
  }
  checkWritable(path, 'the record of the run');
}

function refuseOwn(flag: string, given: string | undefined, folder: string): void {
  if (given === undefined) return;
  const [name = ''] = relative(realPath(folder), realPath(given)).split(sep);
  if (name === '..' || (name !== '' && !isOfPod(name))) return;
  throw new PodError(
    'bad-flag',
    `${flag}: expected a path that is not one of the pod's own files in ${folder}, found ${quoteName(given)}; name another path`,
  );
}

/**
 * Throws PodError `io` if the given folder is not writable. If the folder does not exist, checks
 * the nearest existing folder above it. `what` names the output in the message.
 */
function checkWritable(directory: string, what: string): void {
  const place = nearestExisting(resolve(directory));
  try {
    accessSync(place, constants.W_OK | constants.X_OK);
  } catch (error) {
    const why = messageOf(error);
    throw new PodError('io', `${directory}: ${what} could not be written: ${why}`, error);
  }
}
