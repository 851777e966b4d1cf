import { basename, dirname, join } from 'node:path';
import { isSystemError } from '../../files/system-error.ts';
import { PodError } from '../../numerics/error.ts';
import { type Checkpoint, readWeightsFile, writeFile } from './checkpoint.ts';
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

/** What an interrupted export left. */
async function removeIfThere(files: FileSystem, path: string): Promise<void> {
  try {
    await files.removeFile(path);
  } catch (error) {
    if (!isSystemError(error) || error.code !== 'ENOENT') throw error;
  }
}
