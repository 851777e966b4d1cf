import { dirname } from 'node:path';
import { isSystemError } from '../../files/system-error.ts';
import { draftBeside } from '../../files/write.ts';
import { PodError } from '../../numerics/error.ts';
import { type Checkpoint, type Refusal, readWeightsFile, writeInto } from './checkpoint.ts';
import { listCheckpoints, newestWhole } from './checkpoints.ts';
import type { FileSystem, NewFile } from './files.ts';
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
  try {
    await replaceWith(bytes, target, files);
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

/** Puts a draft that is written beside the target into its place. */
async function replaceWith(bytes: Uint8Array, target: string, files: FileSystem): Promise<void> {
  const folder = dirname(target);
  const draft = await writeDraft(bytes, target, files);
  try {
    await files.rename(draft, target);
  } catch (error) {
    await removeIfPossible(draft, files);
    throw error;
  }
  await files.syncDirectory(folder);
}

/** Writes a file beside the target, and returns its path. Leaves nothing when that fails. */
async function writeDraft(bytes: Uint8Array, target: string, files: FileSystem): Promise<string> {
  const { path, file } = await createDraft(target, files);
  try {
    await writeInto(file, path, [bytes]);
    return path;
  } catch (error) {
    await removeIfPossible(path, files);
    throw error;
  }
}

/** Makes a file beside the target, by a name that nobody has. */
async function createDraft(
  target: string,
  files: FileSystem,
): Promise<{ readonly path: string; readonly file: NewFile }> {
  for (let count = 0; ; count++) {
    const path = draftBeside(target, count);
    try {
      return { path, file: await files.createFile(path) };
    } catch (error) {
      if (!isSystemError(error) || error.code !== 'EEXIST') throw error;
    }
  }
}

/** After a failure that is reported by itself. */
async function removeIfPossible(path: string, files: FileSystem): Promise<void> {
  try {
    await files.removeFile(path);
  } catch (error) {
    if (!isSystemError(error)) throw error;
  }
}
