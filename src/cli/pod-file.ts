import { existsSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { parseJson } from '../files/json.ts';
import { makeDirectory } from '../files/make-directory.ts';
import { mismatch } from '../files/mismatch.ts';
import { readRegularFile } from '../files/read.ts';
import { PodError } from '../numerics/error.ts';

/** Content of `pod.json`, the file in a pod's folder that records how `pod up` started the pod. */
export interface PodFile {
  readonly apiPort: number;
  readonly controlPort: number;
  readonly tpus: number;
  /** Flags of the run in one line, in the form of the environment variable `POD_ARGS`. */
  readonly args: string;
  readonly serve: boolean;
}

const port = z.int().min(1).max(65_535);

const podSchema: z.ZodType<PodFile> = z.strictObject({
  ...{ apiPort: port, controlPort: port, tpus: z.int().min(1) },
  ...{ args: z.string(), serve: z.boolean() },
});

/**
 * Largest accepted `pod.json`, in bytes. The file contains the flags of one command, whose size the
 * system limits (to 128 KiB on Linux), so a file that `pod up` wrote is smaller.
 */
const podFileBytesMax = 2 ** 20;

/** Returns the path of `pod.json` in a pod's folder. */
export function podFile(folder: string): string {
  return join(folder, 'pod.json');
}

/**
 * Reads `pod.json` in the given folder. Returns undefined if the file does not exist. Throws
 * PodError `bad-data` if the file is damaged.
 */
export function readPodFile(folder: string): PodFile | undefined {
  return read(folder, podSchema);
}

/**
 * Reads only the port of the master's API from `pod.json`. A client of the master needs no more, so
 * damage to other fields is ignored. Throws the errors of {@link readPodFile}.
 */
export function readApiPort(folder: string): number | undefined {
  return read(folder, z.object({ apiPort: port }))?.apiPort;
}

function read<T>(folder: string, schema: z.ZodType<T>): T | undefined {
  const path = podFile(folder);
  const file = readRegularFile(path, podFileBytesMax);
  if (file.kind === 'missing') return undefined;
  const help = `run pod down --dir ${folder}, then remove this file`;
  if (file.kind === 'refused') {
    throw new PodError(
      'bad-data',
      `${path}: expected a file of pod up, found ${file.found}; ${help}`,
    );
  }
  const result = schema.safeParse(parseJson(file.bytes.toString('utf8')));
  if (result.success) return result.data;
  const found = mismatch(result.error);
  throw new PodError('bad-data', `${path}: the file is damaged: ${found}; ${help}`);
}

/** Writes `pod.json` by an atomic rename, so that a reader never sees a half-written file. */
export function writePodFile(folder: string, pod: PodFile): void {
  const path = podFile(folder);
  writeFileSync(`${path}.new`, `${JSON.stringify(pod)}\n`, { mode: 0o600 });
  renameSync(`${path}.new`, path);
}

/**
 * Creates a folder that only this user can access, and its missing parents. Throws PodError
 * `bad-flag` if the path is a file.
 */
export function makeFolder(folder: string): void {
  const isThere = existsSync(folder);
  if (isThere && !statSync(folder).isDirectory()) {
    throw new PodError('bad-flag', `--dir ${folder}: expected a folder, found a file`);
  }
  if (isThere) return;
  makeDirectory(folder, 0o700);
}
