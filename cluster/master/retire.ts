import { existsSync, readFileSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { commitsFile } from './job.ts';
import { parseRecord } from './log-record.ts';

/**
 * Renames the commit log of an ended run to `ended-commits.jsonl`, so that the next run in the
 * folder begins anew. Replaces an `ended-commits.jsonl` from before.
 */
export function retire(folder: string): void {
  const path = join(folder, commitsFile);
  if (existsSync(path)) renameSync(path, join(folder, `ended-${commitsFile}`));
}

/**
 * Retires the commit log in `folder` if its run is complete or has failed for good. A pod that is
 * started anew then begins a new run, where the old run would only end again at once.
 */
export function retireEnded(folder: string): void {
  const path = join(folder, commitsFile);
  if (!existsSync(path)) return;
  const records = readFileSync(path, 'utf8').split('\n').map(parseRecord);
  const last = records.findLast((it) => it !== undefined);
  if (last !== undefined && ('failed' in last || 'finished' in last)) retire(folder);
}
