import { closeSync, fsyncSync, openSync } from 'node:fs';
import { platform } from 'node:process';

/**
 * Lets what was made or renamed in a directory outlast a loss of power. Windows keeps directories by
 * itself, and opens none.
 */
export function syncDirectory(path: string): void {
  if (platform === 'win32') return;
  const directory = openSync(path, 'r');
  try {
    fsyncSync(directory);
  } finally {
    closeSync(directory);
  }
}
