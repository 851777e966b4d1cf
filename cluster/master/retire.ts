import { existsSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { commitsFile } from './job.ts';

/**
 * Puts the log of a run that has ended aside, so that the next one in the folder begins anew. The
 * one before it is not kept.
 */
export function retire(folder: string): void {
  const path = join(folder, commitsFile);
  if (existsSync(path)) renameSync(path, join(folder, `ended-${commitsFile}`));
}
