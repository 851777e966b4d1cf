import { basename, dirname, join } from 'node:path';
import { isSystemError } from '../../files/system-error.ts';
import { PodError } from '../../numerics/error.ts';
import { type Checkpoint, type Refusal, readWeightsFile, writeFile } from './checkpoint.ts';
import { listCheckpoints, newestWhole } from './checkpoints.ts';
import type { FileSystem } from './files.ts';
import { nodeFiles } from './node-files.ts';

/**
 * Writes the weights of a checkpoint of `directory` to the safetensors file `target`, whole or not
 * at all. Returns its bytes.
 *
 * @throws PodError `io` when it cannot be written.
 */
export async function exportWeights(
  directory: string,
  checkpoint: Checkpoint,
  target: string,
  files: FileSystem = nodeFiles,
): Promise<number> {
  const bytes = await readWeightsFile(files, directory, checkpoint);
  const folder = dirname(target);
  const partial = `.partial-${basename(target)}`;
  try {
    await removeIfThere(files, join(folder, partial));
    await writeFile(files, folder, partial, [bytes]);
    await files.rename(join(folder, partial), target);
    await files.syncDirectory(folder);
  } catch (error) {
    if (!isSystemError(error)) throw error;
    throw new PodError('io', `${target}: could not be written: ${error.message}`, error);
  }
  return bytes.length;
}

/** What became of an export: undefined when no checkpoint was good. */
export interface Exported {
  readonly file: { readonly name: string; readonly bytes: number } | undefined;
  /** Newer checkpoints that are not good. */
  readonly refused: readonly Refusal[];
}

/**
 * Writes the weights of the newest good checkpoint of those that `list` names, as {@link exportWeights}.
 * If its run deletes it meanwhile, the next one that is good then.
 */
export async function exportNewest(
  directory: string,
  list: () => Promise<readonly string[]>,
  target: string,
  files: FileSystem = nodeFiles,
): Promise<Exported> {
  for (;;) {
    const { checkpoint, refused } = await newestWhole(directory, list, files);
    if (checkpoint === undefined) return { file: undefined, refused };
    const { name } = checkpoint;
    try {
      const bytes = await exportWeights(directory, checkpoint, target, files);
      return { file: { name, bytes }, refused };
    } catch (error) {
      if ((await listCheckpoints(directory, files)).includes(name)) throw error;
    }
  }
}

/** What an interrupted export left. */
async function removeIfThere(files: FileSystem, path: string): Promise<void> {
  try {
    await files.removeFile(path);
  } catch (error) {
    if (!isSystemError(error) || error.code !== 'ENOENT') throw error;
  }
}
