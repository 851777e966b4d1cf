import { existsSync, mkdirSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import { mismatch } from '../files/mismatch.ts';
import { readRegularFile } from '../files/read.ts';
import { PodError } from '../numerics/error.ts';

/** What is known of a pod that was started. */
export interface PodFile {
  readonly apiPort: number;
  readonly controlPort: number;
  readonly tpus: number;
  /** As `POD_ARGS` has them. */
  readonly args: string;
  readonly serve: boolean;
}

const port = z.int().min(1).max(65_535);

const podSchema: z.ZodType<PodFile> = z.strictObject({
  ...{ apiPort: port, controlPort: port, tpus: z.int().min(1) },
  ...{ args: z.string(), serve: z.boolean() },
});

/** Flags of a shell's line are bounded by the system: 128 KiB on Linux. */
const podFileBytesMax = 2 ** 20;

/** The file of a pod's folder that says how it was started. */
export function podFile(folder: string): string {
  return join(folder, 'pod.json');
}

/** What is known of the pod in a folder; undefined when there is none. Throws `bad-data` when it is damaged. */
export function readPodFile(folder: string): PodFile | undefined {
  return read(folder, podSchema);
}

/** Where its master's API is: all that who talks to it needs to know. Throws as {@link readPodFile}. */
export function readApiPort(folder: string): number | undefined {
  return read(folder, z.object({ apiPort: port }))?.apiPort;
}

function read<T>(folder: string, schema: z.ZodType<T>): T | undefined {
  const path = podFile(folder);
  const file = readRegularFile(path, podFileBytesMax);
  if (file.kind === 'missing') return undefined;
  const help = `pod down --dir ${folder}, then remove the file`;
  if (file.kind === 'refused') {
    throw new PodError(
      'bad-data',
      `${path}: expected a file of pod up, found ${file.found}; ${help}`,
    );
  }
  const result = schema.safeParse(json(file.bytes.toString('utf8')));
  if (result.success) return result.data;
  const found = mismatch(result.error);
  throw new PodError('bad-data', `${path}: it is damaged: ${found}; ${help}`);
}

/** Whole or not at all. */
export function writePodFile(folder: string, pod: PodFile): void {
  const path = podFile(folder);
  writeFileSync(`${path}.new`, `${JSON.stringify(pod)}\n`, { mode: 0o600 });
  renameSync(`${path}.new`, path);
}

/** Makes a folder of the user's alone, and those above it, where there are none. */
export function makeFolder(folder: string): void {
  const isThere = existsSync(folder);
  if (isThere && !statSync(folder).isDirectory()) {
    throw new PodError('bad-flag', `--dir ${folder}: expected a folder, found a file`);
  }
  if (isThere) return;
  // One that cannot be made in a folder that is there would be tried for ever, together with it.
  const recursive = !existsSync(dirname(folder));
  mkdirSync(folder, { recursive, mode: 0o700 });
}

function json(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
