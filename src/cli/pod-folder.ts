import { existsSync, readdirSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { holderOf, type Lock, lockFile, lockFolder } from '../../cluster/host/lock.ts';
import { makeToken } from '../../cluster/image/token-file.ts';
import { removeSocketFiles } from '../../cluster/process/socket-file.ts';
import { processesFile, readProcesses } from '../../cluster/process/spawn.ts';
import { endFile, forgetPodEnd } from '../../cluster/supervisor/pod-end.ts';
import { isSystemError } from '../files/system-error.ts';
import { PodError } from '../numerics/error.ts';
import { quoteName } from '../numerics/quote.ts';
import { lives, needProcesses } from './local-pod.ts';
import { makeFolder, type PodFile, readPodFile, writePodFile } from './pod-file.ts';
import { tildeAdvice } from './settings/checks.ts';

/** A folder that this command has locked for a pod. */
export interface TakenFolder {
  readonly lock: Lock;
  /**
   * The pod to run. If a new pod begins, this is the pod that the command asked for. Otherwise it
   * is the older pod of this folder, whose workers are still alive.
   */
  readonly pod: PodFile;
  /**
   * True if a new pod begins. False if an older pod continues: its workers are alive, but its
   * master and supervisor have ended.
   */
  readonly isNew: boolean;
}

/** A folder that a command wants to lock for a pod. */
export interface AskedFolder {
  /** `dir` is the folder as the user gave it, `folder` its absolute path. */
  readonly dir: string;
  readonly folder: string;
  readonly asked: PodFile;
  /**
   * Throws if the run that the user asked for cannot start. Not called if an older pod continues.
   */
  readonly check: () => Promise<void>;
}

/**
 * Locks a folder for a pod. For a new pod, removes the logs and records of earlier pods from the
 * folder, but keeps their jobs and checkpoints. Leaves the folder unchanged and throws if the
 * folder has other files, if its pod is running, or if `check` throws.
 *
 * @throws PodError `in-use`, `bad-flag`, `bad-data` or `io`, naming the folder as the user did.
 */
export async function takeFolder(place: AskedFolder): Promise<TakenFolder> {
  const { dir, folder, asked, check } = place;
  if (dir.startsWith('~')) {
    throw new PodError(
      'bad-flag',
      `--dir: expected a folder, found ${quoteName(dir)}; ${tildeAdvice}`,
    );
  }
  if (inWords(dir, () => find(place)) === undefined) await check();
  return inWords(dir, () => {
    const known = find(place);
    makeFolder(folder);
    const lock = lockFolder(folder, 'pod up');
    try {
      if (known === undefined) prepare(folder, asked);
      forgetPodEnd(folder);
      return { lock, pod: known ?? asked, isNew: known === undefined };
    } catch (error) {
      lock.release();
      throw error;
    }
  });
}

/**
 * Returns the older pod that can continue in the given folder; undefined if a new pod may begin
 * there. Throws if a pod is running in the folder or the folder has other files. Changes nothing on
 * disk.
 */
function find({ dir, folder, asked }: AskedFolder): PodFile | undefined {
  refuseForeign(dir, folder);
  const holder = holderOf(folder);
  if (holder !== undefined) throw isRunning(dir, ` (${holder})`);
  return livingPod(dir, folder, asked);
}

function refuseForeign(dir: string, folder: string): void {
  const stats = statSync(folder, { throwIfNoEntry: false });
  if (stats === undefined) return;
  if (!stats.isDirectory()) {
    throw new PodError('bad-flag', `--dir ${dir}: expected a folder, found a file`);
  }
  const all = readdirSync(folder);
  const names = all.filter((name) => name !== lockFile);
  if (names.length === 0) return;
  const isOurs =
    names.includes('pod.json') && (names.includes(processesFile) || all.includes(lockFile));
  // If `pod.json` is damaged, `readPodFile` throws an error that says so.
  if (isOurs && readPodFile(folder) !== undefined) return;
  const others = names.length === 1 ? '' : ` and ${names.length - 1} more`;
  const found = `found ${names.sort()[0]}${others} in it`;
  throw new PodError(
    'bad-flag',
    `--dir ${dir}: expected an empty folder or a folder of pod up, ${found}; name another folder`,
  );
}

/**
 * Returns the pod in the given folder if its workers are alive, its master has ended, and its
 * settings are those of `asked`, the pod that the user wants. Returns undefined if no process of
 * the pod is alive. Throws `in-use` if the master is alive or the settings differ.
 */
function livingPod(dir: string, folder: string, asked: PodFile): PodFile | undefined {
  const processes = existsSync(join(folder, processesFile)) ? needProcesses(folder) : undefined;
  if (!processes?.all.some(lives)) return undefined;
  const known = readPodFile(folder);
  const isSame = known?.args === asked.args && known.serve === asked.serve;
  if (known === undefined || !isSame || lives(processes.master)) throw isRunning(dir, '');
  return known;
}

function isRunning(dir: string, who: string): PodError {
  return new PodError(
    'in-use',
    `--dir ${dir}: a pod is running in this folder${who}; end the pod first (pod down)`,
  );
}

/** Files that a pod writes into its folder and that are removed before the next pod begins. */
const leftovers = new RegExp(
  `^(${processesFile}|${endFile}|(ended-)?commits\\.jsonl|(master|supervisor|tpu-\\d+)\\.(log|status))$`,
);

/** Files and folders that a pod leaves in its folder for the next pod. */
const kept: readonly string[] = [lockFile, 'token', 'pod.json', 'jobs'];

/** True if a file or folder with this name in a pod's folder belongs to the pod. */
export function isOfPod(name: string): boolean {
  const plain = name.replace(/\.new$/, '');
  return kept.includes(plain) || leftovers.test(plain);
}

function prepare(folder: string, asked: PodFile): void {
  removeSocketFiles(readProcesses(folder)?.all.map(({ pid }) => pid) ?? []);
  for (const name of readdirSync(folder)) if (leftovers.test(name)) rmSync(join(folder, name));
  makeToken(join(folder, 'token'));
  writePodFile(folder, asked);
}

function inWords<T>(dir: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (!isSystemError(error)) throw error;
    throw new PodError('io', `--dir ${dir}: ${error.message}`, error);
  }
}
