import { renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { readSmallText } from '../../src/files/read.ts';

/** How a pod of processes has ended. */
export interface PodEnd {
  /** As the master's: see docs/OPERATING.md, Exit codes. */
  readonly exitCode: number;
  /** Code of the error that ended it, if there was one. */
  readonly code: string | undefined;
  /** One line; undefined of a pod that was done or was told to end. */
  readonly reason: string | undefined;
}

/** An end that was written down. */
export interface SeenEnd extends PodEnd {
  /** When it was, in ISO 8601; older versions did not say. */
  readonly time: string | undefined;
}

/** The file in a pod's folder that says how the pod ended. */
export const endFile = 'ended.json';

const schema = z.object({
  exitCode: z.int(),
  code: z.string().optional(),
  reason: z.string().optional(),
  time: z.iso.datetime().optional(),
});

export function writePodEnd(folder: string, end: PodEnd): void {
  const path = join(folder, endFile);
  const text = `${JSON.stringify({ ...end, time: new Date().toISOString() })}\n`;
  writeFileSync(`${path}.new`, text, { mode: 0o600 });
  renameSync(`${path}.new`, path);
}

/** How the pod of a folder ended; undefined while it runs, or when nobody saw its end. */
export function readPodEnd(folder: string): SeenEnd | undefined {
  const text = readSmallText(join(folder, endFile));
  if (text === undefined) return undefined;
  const found = schema.safeParse(jsonOf(text)).data;
  if (found === undefined) return undefined;
  const { exitCode, code, reason, time } = found;
  return { exitCode, code, reason, time };
}

/** A pod begins in the folder. */
export function forgetPodEnd(folder: string): void {
  rmSync(join(folder, endFile), { force: true });
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
