import { readdirSync, type Stats, statSync } from 'node:fs';
import { basename, join, relative, sep } from 'node:path';
import { isSameStats, realPath } from '../../files/target.ts';
import { parseName } from './checkpoint.ts';

/** Names that belong to checkpoints, in their folder: `step-0000120`, `.partial-…`, `.lock`. */
const ownName = /^(step-\d+(\.\d+)?|\..*)$/;

/**
 * Whether a file, there or not, is the folder of checkpoints, lies where `folder` keeps its own files, or is
 * one of these by another name. `path` has no links in it; `stats` are those of the file, if it is there.
 */
export function isOfCheckpoints(folder: string, path: string, stats: Stats | undefined): boolean {
  const root = realPath(folder);
  const [name = ''] = relative(root, path).split(sep);
  const isOwn = name === '' || ownName.test(name) || ownName.test(basename(root));
  if (name !== '..' && isOwn) return true;
  return stats !== undefined && filesOf(root).some((it) => isSameStats(it, stats));
}

/** The files of all checkpoints of a folder. */
function filesOf(folder: string): Stats[] {
  const checkpoints = namesIn(folder).filter((name) => parseName(name) !== undefined);
  return checkpoints.flatMap((checkpoint) => {
    const path = join(folder, checkpoint);
    return namesIn(path).flatMap((name) => {
      return statSync(join(path, name), { throwIfNoEntry: false }) ?? [];
    });
  });
}

/** Nothing for what is no folder, is not there, or cannot be read. */
function namesIn(path: string): readonly string[] {
  try {
    return readdirSync(path);
  } catch {
    return [];
  }
}
