import { readdirSync, realpathSync, type Stats, statSync } from 'node:fs';
import { basename, join, relative, sep } from 'node:path';
import { isSameStats } from '../../files/target.ts';
import { parseName } from './checkpoint.ts';

/** Names that belong to checkpoints, in their folder: `step-0000120`, `.partial-…`, `.lock`. */
const ownName = /^(step-\d+(\.\d+)?|\..*)$/;

/**
 * Whether a file, there or not, lies where the checkpoints of `folder` keep theirs, or is one of their
 * files by another name. `path` has no links in it; `stats` are those of the file, if it is there.
 *
 * @throws an error of the system when the folder cannot be read.
 */
export function isOfCheckpoints(folder: string, path: string, stats: Stats | undefined): boolean {
  const root = realpathSync(folder);
  const [name = ''] = relative(root, path).split(sep);
  const isInside = name !== '..' && (ownName.test(name) || ownName.test(basename(root)));
  return isInside || (stats !== undefined && filesOf(root).some((it) => isSameStats(it, stats)));
}

/** The files of all checkpoints of a folder. */
function filesOf(folder: string): Stats[] {
  const checkpoints = readdirSync(folder).filter((name) => parseName(name) !== undefined);
  return checkpoints.flatMap((checkpoint) => {
    const path = join(folder, checkpoint);
    return namesIn(path).flatMap((name) => {
      return statSync(join(path, name), { throwIfNoEntry: false }) ?? [];
    });
  });
}

/** Nothing for what is no folder, or is deleted meanwhile. */
function namesIn(path: string): readonly string[] {
  try {
    return readdirSync(path);
  } catch {
    return [];
  }
}
