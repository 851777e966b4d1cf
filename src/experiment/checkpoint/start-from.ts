import { basename, dirname, join, resolve } from 'node:path';
import { isSystemError } from '../../files/system-error.ts';
import { at } from '../../numerics/assert.ts';
import { PodError } from '../../numerics/error.ts';
import { sameShape, shapeText } from '../../numerics/shape.ts';
import { type Checkpoint, type Refusal, stepOf } from './checkpoint.ts';
import { gone, isRefusal, listCheckpoints, newestWhole, verifyCheckpoint } from './checkpoints.ts';
import type { FileSystem } from './files.ts';
import { nodeFiles } from './node-files.ts';
import type { NamedShape } from './resume.ts';
import type { Tensor } from './safetensors.ts';

/**
 * Weights with which a new run begins, read from a checkpoint. The optimizer state of the
 * checkpoint is not used.
 */
export interface Start {
  /** Path of the checkpoint, such as `ck/step-0000120`. */
  readonly path: string;
  /** Digest of the weights that the pod committed: 16 hexadecimal digits. */
  readonly weightsDigest: string;
  readonly weights: readonly Tensor[];
  /** Checkpoints of the same folder that are newer but were refused, with the reasons. */
  readonly refused: readonly Refusal[];
}

/**
 * Reads the weights of a checkpoint and checks every byte against the checksums. `path` is a
 * checkpoint `step-…`, or a folder of checkpoints. In a folder, the newest good checkpoint is read.
 *
 * @throws PodError `bad-data` if there is no good checkpoint, `io` if the folder cannot be read.
 */
export async function readStart(path: string, files: FileSystem = nodeFiles): Promise<Start> {
  const whole = resolve(path);
  const [directory, name] = [dirname(whole), basename(whole)];
  if (stepOf(name) === undefined) return newestGood(path, files);
  const found = await verifyCheckpoint(directory, name, files);
  if (found === gone) throw wrongStart(path, 'a good checkpoint', 'nothing there');
  if (isRefusal(found)) throw wrongStart(path, 'a good checkpoint', found.reason);
  return startOf(path, found, []);
}

async function namesIn(path: string, files: FileSystem): Promise<readonly string[]> {
  const expected = 'a checkpoint (a folder step-…) or a folder of checkpoints';
  try {
    const names = await listCheckpoints(path, files);
    if (names.length > 0) return names;
  } catch (error) {
    const cause = error instanceof PodError ? error.cause : undefined;
    if (!isSystemError(cause)) throw error;
    if (cause.code === 'ENOENT') throw wrongStart(path, expected, 'nothing there');
    if (cause.code === 'ENOTDIR') throw wrongStart(path, expected, 'a file');
    throw error;
  }
  throw wrongStart(path, expected, 'a folder without checkpoints');
}

async function newestGood(path: string, files: FileSystem): Promise<Start> {
  const { checkpoint, refused } = await newestWhole(path, () => namesIn(path, files), files);
  if (checkpoint !== undefined) return startOf(join(path, checkpoint.name), checkpoint, refused);
  const { name, reason } = at(refused, 0);
  throw wrongStart(path, 'a good checkpoint', `${name}: ${reason}`);
}

function startOf(
  path: string,
  { manifest, tensors }: Checkpoint,
  refused: readonly Refusal[],
): Start {
  const { weightsDigest, weights } = manifest;
  return { path, weightsDigest, weights: tensors.slice(0, weights), refused };
}

/**
 * Returns the initial parameters of a new run. The first `weights` parameters are weights and get
 * the values of the checkpoint. The other parameters are optimizer state and keep their values in
 * `fresh`.
 *
 * @throws PodError `bad-config` naming the first weight whose name or shape differs between the
 *   checkpoint and the run.
 */
export function withWeights(
  { path, weights: found }: Start,
  parameters: readonly NamedShape[],
  weights: number,
  fresh: readonly Uint8Array[],
): readonly Uint8Array[] {
  if (found.length !== weights) {
    throw unfit(path, `${weights} weights, as this network has`, `${found.length}`);
  }
  return fresh.map((value, i) => {
    const tensor = found[i];
    if (tensor === undefined) return value;
    const parameter = at(parameters, i);
    if (tensor.name === parameter.name && sameShape(tensor.shape, parameter.shape)) {
      return tensor.bytes;
    }
    throw unfit(path, `weight ${described(parameter)}`, described(tensor));
  });
}

function described({ name, shape }: NamedShape): string {
  return `${name} ${shapeText(shape)}`;
}

function unfit(path: string, expected: string, found: string): PodError {
  const advice = 'start from a checkpoint of the same model and data';
  return new PodError(
    'bad-config',
    `weights of ${path}: expected ${expected}, found ${found}; ${advice}`,
  );
}

function wrongStart(path: string, expected: string, found: string): PodError {
  return new PodError(
    'bad-data',
    `weights to start from, ${path}: expected ${expected}, found ${found}`,
  );
}
