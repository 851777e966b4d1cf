import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { isSystemError } from '../../files/system-error.ts';
import { assert, at } from '../../numerics/assert.ts';
import { digest, digestText } from '../../numerics/digest.ts';
import { PodError, withOrigin } from '../../numerics/error.ts';
import { badData } from './bad-data.ts';
import type { FileSystem, NewFile } from './files.ts';
import {
  type Manifest,
  type ManifestFile,
  manifestBytesMax,
  manifestFormat,
  manifestText,
  manifestVersion,
  parseManifest,
} from './manifest.ts';
import { decodeSafetensors, encodeSafetensors, type Tensor } from './safetensors.ts';
import type { SavedConfig } from './saved-run.ts';

/** State of a run between two steps: everything that its later steps depend on. */
export interface Snapshot {
  readonly config: SavedConfig;
  /** Number of steps committed. */
  readonly step: number;
  /** Position in the stream of examples at which the next step begins. */
  readonly samplesSeen: number;
  /** Size of the training set. The order of the stream of examples depends on it. */
  readonly trainSamples: number;
  /** Mean loss of the last step over its global batch. */
  readonly loss: number;
  /** Digest of the weights that the pod committed: 16 hexadecimal digits. */
  readonly weightsDigest: string;
  /**
   * Parameters in order: the weights, then the optimizer state. The bytes must not be changed after
   * the snapshot, because the checkpoint is written in the background.
   */
  readonly tensors: readonly Tensor[];
  /** Number of tensors that are weights. */
  readonly weights: number;
}

/** A checkpoint that was read and whose files match their checksums. */
export interface Checkpoint {
  /** Name of the checkpoint's directory, such as `step-0000120`. */
  readonly name: string;
  readonly manifest: Manifest;
  /** Parameters in the order of the manifest's `parameters`. */
  readonly tensors: readonly Tensor[];
}

/** A checkpoint that was refused, with the reason in one line. */
export interface Refusal {
  readonly name: string;
  readonly reason: string;
}

export const weightsFile = 'weights.safetensors';
const optimizerFile = 'optimizer.safetensors';
const manifestFile = 'manifest.json';

/** Names of all files of a checkpoint. */
export const checkpointFiles: ReadonlySet<string> = new Set([
  weightsFile,
  optimizerFile,
  manifestFile,
]);

/**
 * Returns the name of a checkpoint's directory: `step-0000120` if `copy` is 0, `step-0000120.1` if
 * `copy` is 1. The first checkpoint of a step has `copy` 0. If that checkpoint is damaged, the run
 * may save the same step again, with a higher `copy`. The damaged checkpoint keeps its name.
 */
export function checkpointName(step: number, copy = 0): string {
  const name = `step-${String(step).padStart(7, '0')}`;
  return copy === 0 ? name : `${name}.${copy}`;
}

/**
 * Returns the step and the copy (see {@link checkpointName}) in the name of a checkpoint's
 * directory; undefined for any other name.
 */
export function parseName(
  name: string,
): { readonly step: number; readonly copy: number } | undefined {
  const [, step, copy] = /^step-(\d+)(?:\.(\d+))?$/.exec(name) ?? [];
  const parsed = { step: Number(step), copy: Number(copy ?? 0) };
  const isName = Number.isSafeInteger(parsed.step) && Number.isSafeInteger(parsed.copy);
  return isName && checkpointName(parsed.step, parsed.copy) === name ? parsed : undefined;
}

/** Returns the step in the name of a checkpoint's directory; undefined for any other name. */
export function stepOf(name: string): number | undefined {
  return parseName(name)?.step;
}

/**
 * Creates the directory `path` and writes the files of a checkpoint into it. Returns the total size
 * of the files in bytes. Once the promise resolves, the files survive a loss of power.
 */
export async function writeCheckpoint(
  files: FileSystem,
  path: string,
  snapshot: Snapshot,
): Promise<number> {
  await files.makeDirectory(path);
  const written: ManifestFile[] = [];
  for (const [name, tensors] of partsOf(snapshot)) {
    const metadata = metadataOf(snapshot);
    written.push(await writeFile(files, path, name, encodeSafetensors({ tensors, metadata })));
  }
  const text = new TextEncoder().encode(manifestText(manifestOf(snapshot, written)));
  const { bytes } = await writeFile(files, path, manifestFile, [text]);
  await files.syncDirectory(path);
  return written.reduce((sum, file) => sum + file.bytes, bytes);
}

/**
 * Reads a whole checkpoint and checks every byte against the checksums.
 *
 * @throws PodError `bad-data` if the checkpoint is damaged, with a message of one line; `io` if a
 *   file of the checkpoint cannot be read.
 */
export async function readCheckpoint(
  files: FileSystem,
  directory: string,
  name: string,
): Promise<Checkpoint> {
  const path = join(directory, name);
  const manifest = await readManifest(files, directory, name);
  const found = new Map<string, Tensor>();
  for (const file of manifest.files) {
    const bytes = await readSummed(files, path, file);
    const { tensors } = withOrigin(file.name, () => decodeSafetensors(bytes));
    for (const tensor of tensors) {
      if (found.has(tensor.name))
        throw badData(`${file.name}: ${tensor.name} is in another file too`);
      found.set(tensor.name, tensor);
    }
  }
  const tensors = manifest.parameters.map((parameter) => {
    const tensor = found.get(parameter);
    if (tensor === undefined || !found.delete(parameter)) throw badData(`${parameter} is missing`);
    return tensor;
  });
  for (const other of found.keys())
    throw badData(`tensor ${other}: the manifest has no such parameter`);
  checkWeights(manifest, tensors);
  return { name, manifest, tensors };
}

/** Reads the manifest of a checkpoint. Throws the errors of {@link readCheckpoint}. */
export async function readManifest(
  files: FileSystem,
  directory: string,
  name: string,
): Promise<Manifest> {
  const path = join(directory, name);
  const bytes = await read(files, path, manifestFile, manifestBytesMax);
  const manifest = withOrigin(manifestFile, () => parseManifest(bytes));
  if (manifest.step !== stepOf(name))
    throw badData(
      `${manifestFile}: expected step ${stepOf(name)} of the directory's name, found step ${manifest.step}`,
    );
  return manifest;
}

/**
 * Reads a checkpoint's file of weights and checks its checksum. Throws the errors of {@link
 * readCheckpoint}.
 */
export async function readWeightsFile(
  files: FileSystem,
  directory: string,
  { name, manifest }: Checkpoint,
): Promise<Uint8Array> {
  const file = manifest.files.find((it) => it.name === weightsFile);
  if (file === undefined) throw badData(`${weightsFile} is missing`);
  return readSummed(files, join(directory, name), file);
}

async function writeFile(
  files: FileSystem,
  path: string,
  name: string,
  parts: readonly Uint8Array[],
): Promise<ManifestFile> {
  return writeInto(await files.createFile(join(path, name)), name, parts);
}

/**
 * Writes `parts` into a new file, syncs it to the disk and closes it. Returns the file's size and
 * the SHA-256 of the written bytes.
 */
export async function writeInto(
  file: NewFile,
  name: string,
  parts: readonly Uint8Array[],
): Promise<ManifestFile> {
  const hash = createHash('sha256');
  let bytes = 0;
  try {
    for (const chunk of chunksOf(parts)) {
      hash.update(chunk);
      bytes += chunk.length;
      for (let start = 0; start < chunk.length; ) {
        const count = await file.write(chunk.subarray(start));
        assert(count > 0, `${name}: a write of nothing`);
        start += count;
      }
    }
    await file.sync();
  } finally {
    await file.close();
  }
  return { name, bytes, sha256: hash.digest('hex') };
}

/**
 * Number of bytes that are hashed and written at a time. Hashing so many bytes takes about a
 * millisecond, so that the event loop is not blocked for long.
 */
const chunkBytes = 2 ** 20;

function* chunksOf(parts: readonly Uint8Array[]): Generator<Uint8Array> {
  for (const part of parts) {
    for (let start = 0; start < part.length; start += chunkBytes) {
      yield part.subarray(start, start + chunkBytes);
    }
  }
}

function partsOf({ tensors, weights }: Snapshot): [string, readonly Tensor[]][] {
  assert(weights <= tensors.length, `${weights} weights of ${tensors.length} parameters`);
  return [
    [weightsFile, tensors.slice(0, weights)],
    [optimizerFile, tensors.slice(weights)],
  ];
}

/**
 * Returns the metadata of a safetensors file, for tools that read the file without the manifest.
 */
function metadataOf({ config, step, weightsDigest }: Snapshot): Record<string, string> {
  return { model: config.model, data: config.data, step: String(step), weightsDigest };
}

function manifestOf(snapshot: Snapshot, files: readonly ManifestFile[]): Manifest {
  const { config, tensors, loss, ...rest } = snapshot;
  assert(Number.isFinite(loss), `a checkpoint of a run with loss ${loss}`);
  return {
    format: manifestFormat,
    version: manifestVersion,
    ...rest,
    loss,
    config: { ...config },
    parameters: tensors.map(({ name }) => name),
    files,
  };
}

async function readSummed(
  files: FileSystem,
  path: string,
  { name, bytes, sha256 }: ManifestFile,
): Promise<Uint8Array> {
  const content = await read(files, path, name, bytes);
  if (content.length !== bytes) {
    throw badData(`${name}: expected ${bytes} bytes, found ${content.length}`);
  }
  const found = createHash('sha256').update(content).digest('hex');
  if (found !== sha256) throw badData(`${name}: expected SHA-256 ${sha256}, found ${found}`);
  return content;
}

async function read(
  files: FileSystem,
  path: string,
  name: string,
  bytesMax: number,
): Promise<Uint8Array> {
  try {
    return await files.readFile(join(path, name), bytesMax);
  } catch (error) {
    if (!isSystemError(error)) throw error;
    if (error.code === 'EFBIG')
      throw badData(`${name}: expected ${bytesMax} bytes, found more`, error);
    throw new PodError('io', `${name}: could not be read: ${error.message}`, error);
  }
}

/**
 * Throws `bad-data` unless the weights have the digest that the pod committed. The checksums of the
 * files do not replace this check. They show that the files have not changed since they were
 * written, but not that the right weights were written.
 */
function checkWeights({ weights, weightsDigest }: Manifest, tensors: readonly Tensor[]): void {
  if (weights > tensors.length) throw badData(`${weights} weights of ${tensors.length} parameters`);
  let value = 0n;
  for (let i = 0; i < weights; i++) value = digest(wordsOf(at(tensors, i)), value);
  const found = digestText(value);
  if (found !== weightsDigest) {
    throw badData(`expected weights with digest ${weightsDigest}, found ${found}`);
  }
}

/**
 * Returns the bytes of a tensor as 32-bit words, padded with zeros to whole words. The digest of
 * the weights is computed over these words.
 */
function wordsOf({ bytes }: Tensor): Uint32Array {
  if (bytes.byteOffset % 4 === 0 && bytes.length % 4 === 0) {
    return new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
  }
  const words = new Uint32Array(Math.ceil(bytes.length / 4));
  new Uint8Array(words.buffer).set(bytes);
  return words;
}
