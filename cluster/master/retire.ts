import { existsSync, readFileSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { commitsFile } from './job.ts';
import { parseRecord } from './log-record.ts';

/**
 * Renames the commit log of a run that has ended to `ended-commits.jsonl`, so that the next run in
 * the folder begins anew. Replaces an older `ended-commits.jsonl`.
 */
export function retire(folder: string): void {
  const path = join(folder, commitsFile);
  if (existsSync(path)) renameSync(path, join(folder, `ended-${commitsFile}`));
}

/**
 * Renames the commit log in `folder` as {@link retire} does, if the run in the log is complete or
 * has failed for good. The next master then begins a new run. With the old log the next master
 * would only end at once with the old result.
 */
export function retireEnded(folder: string): void {
  const path = join(folder, commitsFile);
  if (!existsSync(path)) return;
  const records = readFileSync(path, 'utf8').split('\n').map(parseRecord);
  const last = records.findLast((it) => it !== undefined);
  if (last !== undefined && ('failed' in last || 'finished' in last)) retire(folder);
}
