import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { isStopCode } from '../../cluster/host/ending.ts';
import { type FaultFile, faultsVariable } from '../../cluster/runtime/fault-file.ts';
import type { Fault } from '../fault/plan.ts';
import type { SeenEvent } from '../fault/seen.ts';
import type { Observation } from '../fault/verdict.ts';
import { runFiles } from '../run/files.ts';
import { startGuard } from './chaos-guard.ts';
import { endPod } from './chaos-heal.ts';
import { type MasterEnded, observationAfter } from './chaos-observation.ts';
import { withEndSignal } from './end-signal.ts';
import { Interrupted } from './interrupted.ts';
import { withOwnFolder } from './own-folder.ts';
import { Follower, lookMs } from './record-follower.ts';
import type { Settings } from './settings/merge.ts';
import { wordsOf } from './settings/words.ts';

/**
 * Trains in a pod of processes on this machine (`pod up`), with the given faults. Returns what the
 * record of the run shows. Calls `tell` for the events of the run while it goes on. If `tell`
 * throws an error, or if a signal asks this process to end, the pod ends first. If this process is
 * killed, the guard, another process, ends the pod.
 *
 * @throws PodError if the run was refused. {@link Interrupted} if a signal ended the pod.
 */
export function inProcesses(
  settings: Settings,
  faults: readonly Fault[],
  tell: (event: SeenEvent) => void,
): Promise<Observation> {
  return withEndSignal((signal) =>
    withOwnFolder('chaos', (folder) => inFolder(folder, signal, settings, faults, tell)),
  );
}

/**
 * Trains in a pod of processes whose files are in `folder`. If the setting `run` names a folder,
 * the record of the run is written there and kept. Otherwise the record is in `folder` too.
 */
async function inFolder(
  folder: string,
  signal: Promise<never>,
  settings: Settings,
  faults: readonly Fault[],
  tell: (event: SeenEvent) => void,
): Promise<Observation> {
  const ledger = join(folder, 'injected');
  const kept = settings.get('run');
  const record = kept ?? join(folder, 'run');
  const file: FaultFile = { faults, ledger };
  writeFileSync(join(folder, 'faults.json'), JSON.stringify(file));
  const outputs = ['--dir', join(folder, 'pod'), ...(kept === undefined ? ['--run', record] : [])];
  const follower = new Follower(join(record, runFiles.events), tell);
  const ended = await runPod(
    ['up', '--wait', '--json', ...outputs, ...wordsOf(settings)],
    { [faultsVariable]: join(folder, 'faults.json') },
    follower,
    { signal, pod: join(folder, 'pod') },
  );
  const who = `pod up ended with exit code ${ended.code}`;
  return observationAfter(ended, follower.told, ledger, who);
}

/**
 * Runs a `pod` command with further environment variables. Meanwhile the follower reads the record
 * of the run, which the command writes. The complaint in the result is the last line of the
 * standard error of the command. If the follower throws an error, ends the command and throws this
 * error. If `signal` rejects, ends the command and all processes of the pod in the folder `pod` at
 * once.
 */
async function runPod(
  words: readonly string[],
  more: Readonly<Record<string, string>>,
  follower: Follower,
  { signal, pod }: { readonly signal: Promise<never>; readonly pod: string },
): Promise<MasterEnded> {
  const program = fileURLToPath(new URL('./main.cjs', import.meta.url));
  const child = spawn(process.execPath, [program, ...words], {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: { ...process.env, ...more },
  });
  let complaint = '';
  child.stderr?.on('data', (piece: Buffer) => {
    complaint += piece;
  });
  const guard = startGuard();
  if (child.pid !== undefined) guard.note(child.pid);
  let interrupted: Interrupted | undefined;
  signal.catch((error: Interrupted) => {
    interrupted = error;
    child.kill('SIGKILL');
  });
  try {
    const code = await closeOf(child, follower);
    if (interrupted !== undefined) await endPod(pod);
    else if (code !== null && isStopCode(code)) interrupted = new Interrupted(code);
    if (interrupted !== undefined) throw interrupted;
    follower.look();
    return { code, complaint: complaint.trim().split('\n').at(-1) ?? '' };
  } finally {
    guard.end();
  }
}

/** Waits for the end of a command. Meanwhile the follower reads the record of the run. */
async function closeOf(child: ChildProcess, follower: Follower): Promise<number | null> {
  let thrown: { readonly error: unknown } | undefined;
  const timer = setInterval(() => {
    try {
      follower.look();
    } catch (error) {
      thrown = { error };
      clearInterval(timer);
      child.kill('SIGTERM');
    }
  }, lookMs);
  try {
    const [code] = (await once(child, 'close')) as [number | null];
    if (thrown !== undefined) throw thrown.error;
    return code;
  } finally {
    clearInterval(timer);
  }
}
