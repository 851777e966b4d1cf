import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type FaultFile, faultsVariable, readLedger } from '../../cluster/threads/fault-file.ts';
import type { Fault } from '../fault/plan.ts';
import type { Observation } from '../fault/verdict.ts';
import { type ErrorCode, PodError } from '../numerics/error.ts';
import { runFiles } from '../run/files.ts';
import { readRun } from '../run/read.ts';
import { hasBegun, lineOf, observationOf, type Told } from './chaos-observation.ts';
import type { Settings } from './settings/merge.ts';
import { wordsOf } from './settings/words.ts';

/**
 * Trains in processes of this machine (`pod up`), with the given faults, and reads what happened from
 * the record of the run. Rejects with a PodError if the run was refused.
 */
export async function inProcesses(
  settings: Settings,
  faults: readonly Fault[],
  say: (line: string) => void,
): Promise<Observation> {
  const folder = mkdtempSync(join(tmpdir(), 'pod-chaos-'));
  process.once('exit', () => rmSync(folder, { recursive: true, force: true }));
  const [ledger, record] = [join(folder, 'injected'), join(folder, 'run')];
  const file: FaultFile = { faults, ledger };
  writeFileSync(join(folder, 'faults.json'), JSON.stringify(file));
  const outputs = ['--dir', join(folder, 'pod'), '--run', record];
  const { code, complaint } = await runPod(
    ['up', '--wait', '--json', ...outputs, ...wordsOf(settings)],
    { [faultsVariable]: join(folder, 'faults.json') },
  );
  const told = toldIn(record);
  if (code !== 0 && code !== 3 && !hasBegun(told)) {
    throw new PodError(codeOf(code), `pod up ended with exit code ${code}: ${complaint}`);
  }
  for (const { event } of told) {
    const line = lineOf(event);
    if (line !== undefined) say(line);
  }
  return observationOf(told, readLedger(ledger), code === 0 ? '' : complaint);
}

/** How a `pod` command ended: its exit code, and the last line of its standard error. */
interface PodEnded {
  readonly code: number | null;
  readonly complaint: string;
}

/** Runs a `pod` command with further environment variables. */
async function runPod(
  words: readonly string[],
  more: Readonly<Record<string, string>>,
): Promise<PodEnded> {
  const program = fileURLToPath(new URL('./main.cjs', import.meta.url));
  const child = spawn(process.execPath, [program, ...words], {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: { ...process.env, ...more },
  });
  let complaint = '';
  child.stderr?.on('data', (piece: Buffer) => {
    complaint += piece;
  });
  const [code] = (await once(child, 'close')) as [number | null];
  // If a signal ended the command, this process ends too, with the same exit code.
  if (code === 130 || code === 143) process.exit(code);
  return { code, complaint: complaint.trim().split('\n').at(-1) ?? '' };
}

/** Returns the events in the record of a run. A run that was refused has no record. */
function toldIn(record: string): readonly Told[] {
  if (!existsSync(join(record, runFiles.events))) return [];
  return readRun(record).events.map((event) => ({ ms: event.time, event }));
}

/** Returns the error code for a `pod up` that refused to run, by its exit code. */
function codeOf(exitCode: number | null): ErrorCode {
  if (exitCode === 4) return 'out-of-memory';
  return exitCode === 5 ? 'io' : 'bad-plan';
}
