import { mkdtempSync, rmdirSync, statSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { makeDirectory } from '../files/make-directory.ts';
import { describeKind } from '../files/read.ts';
import { isSystemError } from '../files/system-error.ts';
import { nearestExisting } from '../files/target.ts';
import { messageOf, PodError } from '../numerics/error.ts';
import { quoteName } from '../numerics/quote.ts';

/** A folder for output, made before a command begins its work. */
export class MadeFolder {
  /** The folders that were missing, the innermost first. */
  readonly #made: readonly string[];
  readonly #leave = (): void => this.leave();

  /**
   * Makes a folder and its missing parents. `origin` names the folder in messages: `--run`.
   *
   * @throws PodError `bad-flag` if there is something else, or if the folder cannot be made.
   */
  constructor(origin: string, path: string) {
    this.#made = missingAbove(resolve(path));
    try {
      if (path === '') throw new Error('an empty name');
      makeDirectory(path);
    } catch (error) {
      this.leave();
      throw wrong(origin, path, error);
    }
    process.once('exit', this.#leave);
  }

  /** Removes the folders that were made, as far as they are still empty. */
  leave(): void {
    process.off('exit', this.#leave);
    for (const path of this.#made) if (!isRemoved(path)) return;
  }
}

/**
 * Checks that files can be written to a folder, which need not exist. Leaves nothing on the disk.
 *
 * @throws PodError `bad-flag` if not.
 */
export function checkOutputFolder(origin: string, path: string): void {
  const folder = new MadeFolder(origin, path);
  try {
    rmdirSync(mkdtempSync(join(path, '.pod-')));
  } catch (error) {
    throw wrong(origin, path, error);
  } finally {
    folder.leave();
  }
}

function missingAbove(path: string): readonly string[] {
  const there = nearestExisting(path);
  const missing: string[] = [];
  for (let it = path; it !== there; it = dirname(it)) missing.push(it);
  return missing;
}

/** Removes an empty folder. Returns false if the system refuses it, as for a folder with files. */
function isRemoved(path: string): boolean {
  try {
    rmdirSync(path);
    return true;
  } catch (error) {
    if (isSystemError(error)) return error.code === 'ENOENT';
    throw error;
  }
}

function wrong(origin: string, path: string, error: unknown): PodError {
  const shown = `${otherKind(path) ?? messageOf(error)} (${quoteName(path)})`;
  const message = `${origin}: expected a folder that can be written, found ${shown}`;
  return new PodError('bad-flag', `${message}; name another folder`, error);
}

/** Describes what is at a path if it is no folder; undefined if it is one or nothing is there. */
function otherKind(path: string): string | undefined {
  try {
    const stats = statSync(path);
    return stats.isDirectory() ? undefined : describeKind(stats);
  } catch {
    return undefined;
  }
}
