import { readdirSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ownIdentity, type ProcessIdentity } from '../../cluster/host/process-identity.ts';
import { withTemporaryFolder } from '../files/temporary.ts';

/** What a temporary folder of `pod chaos` is for. It is a part of the name of the folder. */
export type FolderUse = 'chaos' | 'search' | 'record';

/**
 * Makes a temporary folder as {@link withTemporaryFolder} does. Its name says which process made it,
 * so that `pod chaos heal` can remove it if that process was killed.
 */
export function withOwnFolder<T>(use: FolderUse, work: (folder: string) => Promise<T>): Promise<T> {
  const { pid, start } = ownIdentity();
  return withTemporaryFolder(`pod-${use}-${pid}-${start}-`, work);
}

/** A temporary folder of {@link withOwnFolder}. */
export interface OwnFolder {
  readonly path: string;
  readonly use: FolderUse;
  readonly owner: ProcessIdentity;
}

const namePattern = /^pod-(chaos|search|record)-(\d{1,10})-(.*)-[A-Za-z0-9]{6}$/;

/** Returns the temporary folders of this user that processes have made with {@link withOwnFolder}. */
export function ownFolders(): readonly OwnFolder[] {
  return readdirSync(tmpdir()).flatMap((name) => {
    const [, use, pid, start = ''] = namePattern.exec(name) ?? [];
    const path = join(tmpdir(), name);
    if (use === undefined || !isOurs(path)) return [];
    return [{ path, use: use as FolderUse, owner: { pid: Number(pid), start } }];
  });
}

/** True if the folder belongs to the user of this process. */
function isOurs(path: string): boolean {
  const stats = statSync(path, { throwIfNoEntry: false });
  return stats?.isDirectory() === true && (process.getuid?.() ?? stats.uid) === stats.uid;
}
