import { readdirSync, type Stats, statSync } from 'node:fs';
import { basename, join, relative, sep } from 'node:path';
import { isSameStats, realPath } from '../../files/target.ts';
import { parseName } from './checkpoint.ts';

/**
 * Names that a folder of checkpoints reserves: those of checkpoints, such as `step-0000120`, and
 * those that begin with a dot, such as `.partial-…` and `.lock`.
 */
const ownName = /^(step-\d+(\.\d+)?|\..*)$/;

/**
 * True if a file belongs to a folder of checkpoints, so that no output may be written to it. `path`
 * must contain no symbolic links. The file need not exist; `stats` are undefined if it does not. A
 * file belongs to the folder in three cases:
 *
 * - The file is the folder itself.
 * - The file has a reserved name in the folder, or lies below one, or the folder's own name is a
 *   reserved name and the file lies in the folder.
 * - The file is a hard link to a file of a checkpoint.
 */
export function isOfCheckpoints(folder: string, path: string, stats: Stats | undefined): boolean {
  const root = realPath(folder);
  const [name = ''] = relative(root, path).split(sep);
  const isOwn = name === '' || ownName.test(name) || ownName.test(basename(root));
  if (name !== '..' && isOwn) return true;
  return stats !== undefined && filesOf(root).some((it) => isSameStats(it, stats));
}

/** Returns the stats of all files of all checkpoints in a folder. */
function filesOf(folder: string): Stats[] {
  const checkpoints = namesIn(folder).filter((name) => parseName(name) !== undefined);
  return checkpoints.flatMap((checkpoint) => {
    const path = join(folder, checkpoint);
    return namesIn(path).flatMap((name) => {
      return statSync(join(path, name), { throwIfNoEntry: false }) ?? [];
    });
  });
}

/**
 * Returns the names in a folder. Returns an empty list if `path` is not a folder, does not exist or
 * cannot be read.
 */
function namesIn(path: string): readonly string[] {
  try {
    return readdirSync(path);
  } catch {
    return [];
  }
}
