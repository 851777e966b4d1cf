import { renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { parseJson } from '../../src/files/json.ts';
import { readSmallText } from '../../src/files/read.ts';

/** The end of a pod of processes. */
export interface PodEnd {
  /** Exit code of the master; see docs/REFERENCE.md, Exit codes. */
  readonly exitCode: number;
  /** Code of the error that ended the pod; undefined if there was no error or it has no code. */
  readonly code: string | undefined;
  /**
   * Why the pod ended, in one line; undefined if the run was completed or the user ended the pod.
   */
  readonly reason: string | undefined;
}

/** The end of a pod as read from its file. */
export interface SeenEnd extends PodEnd {
  /** Time of the end in ISO 8601; undefined in files of older versions. */
  readonly time: string | undefined;
}

/** Name of the file in a pod's folder that records the end of the pod. */
export const endFile = 'ended.json';

const schema = z.object({
  exitCode: z.int(),
  code: z.string().optional(),
  reason: z.string().optional(),
  time: z.iso.datetime().optional(),
});

/** Writes the end of a pod to its folder. A reader never sees a half-written file. */
export function writePodEnd(folder: string, end: PodEnd): void {
  const path = join(folder, endFile);
  const text = `${JSON.stringify({ ...end, time: new Date().toISOString() })}\n`;
  writeFileSync(`${path}.new`, text, { mode: 0o600 });
  renameSync(`${path}.new`, path);
}

/**
 * Reads the record of how the pod in the given folder ended. Returns undefined if the record is
 * missing or damaged. The record is missing, for example, while the pod runs.
 */
export function readPodEnd(folder: string): SeenEnd | undefined {
  const text = readSmallText(join(folder, endFile));
  if (text === undefined) return undefined;
  const found = schema.safeParse(parseJson(text)).data;
  if (found === undefined) return undefined;
  const { exitCode, code, reason, time } = found;
  return { exitCode, code, reason, time };
}

/** Removes the record of the last pod's end, before a new pod starts in the folder. */
export function forgetPodEnd(folder: string): void {
  rmSync(join(folder, endFile), { force: true });
}
