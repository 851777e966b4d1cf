import { readdirSync, type Stats, statSync } from 'node:fs';
import { basename, join, relative, sep } from 'node:path';
import { isSameStats, realPath } from '../../files/target.ts';
import { parseName } from './checkpoint.ts';

/**
 * Names that are reserved in a folder of checkpoints: names of checkpoints, such as `step-0000120`,
 * and names that begin with a dot, such as `.partial-…` and `.lock`.
 */
const ownName = /^(step-\d+(\.\d+)?|\..*)$/;

/**
 * True if the file `path` belongs to the folder of checkpoints `folder`, so that no output may be
 * written to the file. `path` must contain no symbolic links. If the file does not exist, `stats`
 * is undefined. A file belongs to the folder in four cases:
 *
 * - `path` is the folder itself.
 * - `path` is in the folder, and the first name in `path` below the folder is reserved.
 * - `path` is in the folder, and the folder itself has a reserved name, such as `step-0000120`.
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
