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
 * If the run in the commit log of `folder` is complete or has failed for good, renames the log as
 * {@link retire} does. The next master then begins a new run. Had the log kept its name, the next
 * master would find in it that the run has ended, and would end at once.
 */
export function retireEnded(folder: string): void {
  const path = join(folder, commitsFile);
  if (!existsSync(path)) return;
  const records = readFileSync(path, 'utf8').split('\n').map(parseRecord);
  const last = records.findLast((it) => it !== undefined);
  if (last !== undefined && ('failed' in last || 'finished' in last)) retire(folder);
}
