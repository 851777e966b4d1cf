import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import { readSmallText } from '../../src/files/read.ts';
import { tokenPath } from '../net/token.ts';

/**
 * A note beside the join token, in a folder that the containers of a pod on one machine share: the
 * run of this pod is over. A worker that starts late, and finds no master any more, goes home when
 * it reads it.
 */
const noteFile = 'run-over.json';

/** Times are in seconds since the machine has booted: all containers of one machine have them. */
const noteSchema = z.object({ boot: z.string(), overS: z.number() });

type Env = Readonly<Record<string, string | undefined>>;

/**
 * Leaves the note. Only containers of this project's image do so: they know when they have started,
 * as `POD_STARTED_S` in the same seconds.
 */
export function noteRunOver(env: Env): void {
  const boot = readText(bootPath);
  const overS = uptimeS();
  if (startOf(env) === undefined || boot === undefined || !Number.isFinite(overS)) return;
  const path = notePath(env);
  try {
    writeFileSync(`${path}.new`, `${JSON.stringify({ boot, overS })}\n`, { mode: 0o600 });
    renameSync(`${path}.new`, path);
  } catch {
    // The folder belongs to an orchestrator, which ends the workers by rules of its own.
  }
}

/** The master's container ends first: engines that end a pod with its first container see that. */
const lingerS = 2;

/** Whether the run has been over for a while, and was not yet when this container started. */
export function isRunOver(env: Env): boolean {
  const startedS = startOf(env);
  const text = startedS === undefined ? undefined : readSmallText(notePath(env));
  const note = text === undefined ? undefined : noteSchema.safeParse(jsonOf(text)).data;
  if (startedS === undefined || note === undefined) return false;
  const isOfThisRun = note.boot === readText(bootPath) && note.overS > startedS;
  return isOfThisRun && uptimeS() > note.overS + lingerS;
}

const bootPath = '/proc/sys/kernel/random/boot_id';

function notePath(env: Env): string {
  return join(dirname(tokenPath(env)), noteFile);
}

function uptimeS(): number {
  return Number(readText('/proc/uptime')?.split(' ')[0]);
}

function startOf(env: Env): number | undefined {
  const text = env['POD_STARTED_S'] ?? '';
  return /^\d+(\.\d+)?$/.test(text) ? Number(text) : undefined;
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch {
    return undefined;
  }
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
