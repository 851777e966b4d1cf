import { existsSync, readFileSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { commitsFile } from './job.ts';
import { parseRecord } from './log-record.ts';

/**
 * Puts the log of a run that has ended aside, so that the next one in the folder begins anew. The
 * one before it is not kept.
 */
export function retire(folder: string): void {
  const path = join(folder, commitsFile);
  if (existsSync(path)) renameSync(path, join(folder, `ended-${commitsFile}`));
}

/** Puts it aside if its run is done or has failed for good: whoever starts a pod anew means a new run. */
export function retireEnded(folder: string): void {
  const path = join(folder, commitsFile);
  if (!existsSync(path)) return;
  const records = readFileSync(path, 'utf8').split('\n').map(parseRecord);
  const last = records.findLast((it) => it !== undefined);
  if (last !== undefined && ('failed' in last || 'finished' in last)) retire(folder);
}
