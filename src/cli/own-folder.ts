import { mkdtempSync, readdirSync, rmdirSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ownIdentity, type ProcessIdentity } from '../../cluster/host/process-identity.ts';
import { withTemporaryFolder } from '../files/temporary.ts';
import { messageOf, PodError } from '../numerics/error.ts';
import { quoteName } from '../numerics/quote.ts';

/** What a temporary folder of `pod chaos` is for. It is a part of the name of the folder. */
export type FolderUse = 'chaos' | 'search' | 'record';

/**
 * Makes a temporary folder as {@link withTemporaryFolder} does. Its name says which process made it,
 * so that `pod chaos heal` can remove it if that process was killed.
 *
 * @throws PodError `io` if it cannot be made, and what `work` throws.
 */
export function withOwnFolder<T>(use: FolderUse, work: (folder: string) => Promise<T>): Promise<T> {
  return withTemporaryFolder(prefixOf(use), work, unusable);
}

/**
 * Checks that {@link withOwnFolder} can make a folder. Leaves nothing on the disk.
 *
 * @throws PodError `io` if it cannot.
 */
export function checkOwnFolders(): void {
  try {
    rmdirSync(mkdtempSync(join(tmpdir(), prefixOf('chaos'))));
  } catch (error) {
    throw unusable(error);
  }
}

function prefixOf(use: FolderUse): string {
  const { pid, start } = ownIdentity();
  return `pod-${use}-${pid}-${start}-`;
}

function unusable(error: unknown): PodError {
  const message = `TMPDIR: expected a folder for temporary files, found ${quoteName(tmpdir())}`;
  const why = `${message}: ${messageOf(error)}; set TMPDIR to a folder that can be written`;
  return new PodError('io', why, error);
}

/** A temporary folder of {@link withOwnFolder}. */
export interface OwnFolder {
  readonly path: string;
  readonly owner: ProcessIdentity;
}

const namePattern = /^pod-(?:chaos|search|record)-(\d{1,10})-(.*)-[A-Za-z0-9]{6}$/;

/** Returns the temporary folders of this user that processes have made with {@link withOwnFolder}. */
export function ownFolders(): readonly OwnFolder[] {
  return readdirSync(tmpdir()).flatMap((name) => {
    const [, pid, start = ''] = namePattern.exec(name) ?? [];
    const path = join(tmpdir(), name);
    if (pid === undefined || !isOurs(path)) return [];
    return [{ path, owner: { pid: Number(pid), start } }];
  });
}

/** True if the folder belongs to the user of this process. */
function isOurs(path: string): boolean {
  const stats = statSync(path, { throwIfNoEntry: false });
  return stats?.isDirectory() === true && (process.getuid?.() ?? stats.uid) === stats.uid;
}
