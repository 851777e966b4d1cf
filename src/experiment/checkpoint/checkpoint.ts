import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { isSystemError } from '../../files/system-error.ts';
import { assert, at } from '../../numerics/assert.ts';
import { digest, digestText } from '../../numerics/digest.ts';
import { PodError } from '../../numerics/error.ts';
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

/** A run between two steps: all that its further course depends on. */
export interface Snapshot {
  readonly config: SavedConfig;
  /** Steps committed. */
  readonly step: number;
  /** Position in the stream of samples. */
  readonly samplesSeen: number;
  /** Size of the training set, on which the order of the stream depends. */
  readonly trainSamples: number;
  /** Mean loss of the last step. */
  readonly loss: number;
  /** Digest of the weights, as the pod committed it. */
  readonly weightsDigest: string;
  /** Parameters in their order: weights, then the optimizer's state. Nobody writes to them. */
  readonly tensors: readonly Tensor[];
  /** How many of the tensors are weights. */
  readonly weights: number;
}

/** A checkpoint that was read and found whole. */
export interface Checkpoint {
  /** Name of its directory: `step-0000120`. */
  readonly name: string;
  readonly manifest: Manifest;
  /** In the order of the manifest's `parameters`. */
  readonly tensors: readonly Tensor[];
}

/** A checkpoint that was not used, and why, in one line. */
export interface Refusal {
  readonly name: string;
  readonly reason: string;
}

export const weightsFile = 'weights.safetensors';
const optimizerFile = 'optimizer.safetensors';
const manifestFile = 'manifest.json';

/** Names of all files that a checkpoint has. */
export const checkpointFiles: ReadonlySet<string> = new Set([
  weightsFile,
  optimizerFile,
  manifestFile,
]);

/** Where the names of a step are taken by checkpoints that were refused, `copy` counts on. */
export function checkpointName(step: number, copy = 0): string {
  const name = `step-${String(step).padStart(7, '0')}`;
  return copy === 0 ? name : `${name}.${copy}`;
}

/** What the name of a directory says, if it is a checkpoint's. */
export function parseName(
  name: string,
): { readonly step: number; readonly copy: number } | undefined {
  const [, step, copy] = /^step-(\d+)(?:\.(\d+))?$/.exec(name) ?? [];
  const parsed = { step: Number(step), copy: Number(copy ?? 0) };
  const isName = Number.isSafeInteger(parsed.step) && Number.isSafeInteger(parsed.copy);
  return isName && checkpointName(parsed.step, parsed.copy) === name ? parsed : undefined;
}

/** The step of a directory's name, if it is a checkpoint's. */
export function stepOf(name: string): number | undefined {
  return parseName(name)?.step;
}

/**
 * Writes the files of a checkpoint into the directory `path`, which it makes, in a way that
 * outlasts a loss of power once this resolves. Returns their bytes.
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
 * Reads a checkpoint whole, and holds every byte of it against its checksums.
 *
 * @throws PodError `bad-data` in one line when it is not what was saved, `io` when it cannot be read.
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
    const { tensors } = about(file.name, decodeSafetensors, await readSummed(files, path, file));
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
  for (const other of found.keys()) throw badData(`${other} is no parameter`);
  checkWeights(manifest, tensors);
  return { name, manifest, tensors };
}

/** Reads what a checkpoint says of itself. Throws as {@link readCheckpoint} does. */
export async function readManifest(
  files: FileSystem,
  directory: string,
  name: string,
): Promise<Manifest> {
  const path = join(directory, name);
  const bytes = await read(files, path, manifestFile, manifestBytesMax);
  const manifest = about(manifestFile, parseManifest, bytes);
  if (manifest.step !== stepOf(name))
    throw badData(`${manifestFile}: it is of step ${manifest.step}`);
  return manifest;
}

/** The weights' file of a checkpoint, held against its checksum. Throws as {@link readCheckpoint}. */
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

/** Fills and closes a new file, synced; what is hashed is what is written. */
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

/** Written and hashed at a time: a millisecond, so that the event loop is not held up. */
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

/** What a tool that knows only the one file can tell. */
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

/** Says of which file an error speaks. */
function about<T>(name: string, parse: (bytes: Uint8Array) => T, bytes: Uint8Array): T {
  try {
    return parse(bytes);
  } catch (error) {
    if (!(error instanceof PodError)) throw error;
    throw new PodError(error.code, `${name}: ${error.message}`, error);
  }
}

/** The weights are those that the pod committed: not only what was written, but the right thing. */
function checkWeights({ weights, weightsDigest }: Manifest, tensors: readonly Tensor[]): void {
  if (weights > tensors.length) throw badData(`${weights} weights of ${tensors.length} parameters`);
  let value = 0n;
  for (let i = 0; i < weights; i++) value = digest(wordsOf(at(tensors, i)), value);
  const found = digestText(value);
  if (found !== weightsDigest) {
    throw badData(`expected weights with digest ${weightsDigest}, found ${found}`);
  }
}

/** As the Cloud TPU's digest takes them: filled up with zeros to whole words. */
function wordsOf({ bytes }: Tensor): Uint32Array {
  if (bytes.byteOffset % 4 === 0 && bytes.length % 4 === 0) {
    return new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
  }
  const words = new Uint32Array(Math.ceil(bytes.length / 4));
  new Uint8Array(words.buffer).set(bytes);
  return words;
}
