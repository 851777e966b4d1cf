import { dirname } from 'node:path';
import { isSystemError } from '../../files/system-error.ts';
import { draftBeside } from '../../files/write.ts';
import { PodError } from '../../numerics/error.ts';
import { type Checkpoint, type Refusal, readWeightsFile, writeInto } from './checkpoint.ts';
import { listCheckpoints, newestWhole } from './checkpoints.ts';
import type { FileSystem, NewFile } from './files.ts';
import { nodeFiles } from './node-files.ts';

/**
 * Writes the weights of a checkpoint in `directory` to the safetensors file `target`, either
 * completely or not at all. Returns the file's size in bytes.
 *
 * @throws PodError `io` if `target` cannot be written, `bad-data` or `io` if the weights cannot be
 *   read.
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

/**
 * The outcome of an export. `file` has the name of the exported checkpoint and the size of the
 * written file in bytes. If there was no good checkpoint, nothing is written and `file` is
 * undefined.
 */
export interface Exported {
  readonly file: { readonly name: string; readonly bytes: number } | undefined;
  /** Checkpoints that were refused although they are newer than the exported checkpoint. */
  readonly refused: readonly Refusal[];
}

/**
 * Writes the weights of the newest good checkpoint among the names that `list` returns to `target`,
 * as {@link exportWeights} does. If a run deletes the checkpoint during the export, starts again
 * with the newest good checkpoint that is left.
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

/**
 * Writes `bytes` to a draft, a temporary file in the folder of the target. Then renames the draft
 * to the target.
 */
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

/**
 * Writes a draft: a temporary file in the folder of the target. Returns the path of the draft.
 * Removes the draft if writing fails.
 */
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

/**
 * Creates a draft: an empty temporary file in the folder of the target, with a name that is free.
 */
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

/**
 * Removes a file. Errors of the system are ignored, because the caller already reports an earlier
 * failure.
 */
async function removeIfPossible(path: string, files: FileSystem): Promise<void> {
  try {
    await files.removeFile(path);
  } catch (error) {
    if (!isSystemError(error)) throw error;
  }
}
