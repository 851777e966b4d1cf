import { closeSync, fsyncSync, openSync } from 'node:fs';
import { platform } from 'node:process';

/**
 * Flushes a directory to disk, so that files created or renamed in it survive a power failure. Does
 * nothing on Windows, which flushes directories itself and cannot open a directory.
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
