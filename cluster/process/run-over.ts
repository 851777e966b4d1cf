import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import { parseJson } from '../../src/files/json.ts';
import { readSmallText } from '../../src/files/read.ts';
import { tokenPath } from '../net/token.ts';

/**
 * Name of a file, the note, by which the master says that the run of this pod is over. A worker
 * that starts late and finds no master reads the note and ends. The note lies beside the file of
 * the token, in a folder that all containers of a pod on one machine share.
 */
const noteFile = 'run-over.json';

/**
 * Contents of the note. `boot`: id of the machine's boot. `overS`: time at which the run ended, in
 * seconds since boot. All containers of one machine have the same clock since boot.
 */
const noteSchema = z.object({ boot: z.string(), overS: z.number() });

type Env = Readonly<Record<string, string | undefined>>;

/**
 * Writes the note, a file that says that the run is over. Does nothing outside of this project's
 * image, which sets `POD_STARTED_S` (start time of the container, in seconds since boot).
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
    // Only an orchestrator gives a pod a folder that cannot be written. The orchestrator ends the
    // workers itself, so the workers need no note.
  }
}

/**
 * Time in s that a worker which reads the note keeps running after the end of the run, at least.
 * Within this time the master's container ends. Some container engines stop all containers as soon
 * as one has ended, and report the exit code of that container. So the master's container must end
 * first.
 */
const lingerS = 2;

/**
 * True if, according to the note, the run of this container ended more than `lingerS` seconds ago.
 * A note about a run that ended before this container started does not count.
 */
export function isRunOver(env: Env): boolean {
  const startedS = startOf(env);
  const text = startedS === undefined ? undefined : readSmallText(notePath(env));
  const note = text === undefined ? undefined : noteSchema.safeParse(parseJson(text)).data;
  if (startedS === undefined || note === undefined) return false;
  const isOfThisRun = note.boot === readText(bootPath) && note.overS > startedS;
  return isOfThisRun && uptimeS() > note.overS + lingerS;
}

/** File with a random id that Linux makes at every boot. */
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
