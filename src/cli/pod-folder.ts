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

/** A folder that belongs to this command now. */
export interface TakenFolder {
  readonly lock: Lock;
  /** What is to run: what was asked, or what the workers that live have been started for. */
  readonly pod: PodFile;
  /** Whether a pod begins; else workers of one whose master and supervisor have ended go on. */
  readonly isNew: boolean;
}

/** A folder that is asked for. */
export interface AskedFolder {
  /** As the user gave it, and its whole path. */
  readonly dir: string;
  readonly folder: string;
  readonly asked: PodFile;
  /** Throws if a new pod could not run what is asked. */
  readonly check: () => Promise<void>;
}

/**
 * Takes a folder for a pod and prepares it. A folder with files of others, or whose pod runs, is
 * refused before anything in it is changed, and so is a new pod that fails the check. Jobs and checkpoints of earlier pods are kept.
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

/** The pod that goes on in a folder; undefined where a new one may begin. Changes nothing. */
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
  // Also if it is damaged: that is said in words of its own.
  if (isOurs && readPodFile(folder) !== undefined) return;
  const others = names.length === 1 ? '' : ` and ${names.length - 1} more`;
  const found = `found ${names.sort()[0]}${others}`;
  throw new PodError(
    'bad-flag',
    `--dir ${dir}: expected an empty folder or one of pod up, ${found}`,
  );
}

/** The pod whose workers live without a master: it goes on if it is the one that was asked for. */
function livingPod(dir: string, folder: string, asked: PodFile): PodFile | undefined {
  const processes = existsSync(join(folder, processesFile)) ? needProcesses(folder) : undefined;
  if (!processes?.all.some(lives)) return undefined;
  const known = readPodFile(folder);
  const isSame = known?.args === asked.args && known.serve === asked.serve;
  if (known === undefined || !isSame || lives(processes.master)) throw isRunning(dir, '');
  return known;
}

function isRunning(dir: string, who: string): PodError {
  return new PodError('in-use', `--dir ${dir}: a pod is running there${who}; use pod down first`);
}

/** What a pod writes into its folder, and the next one begins without. */
const leftovers = new RegExp(
  `^(${processesFile}|${endFile}|(ended-)?commits\\.jsonl|(master|supervisor|tpu-\\d+)\\.(log|status))$`,
);

/** What a pod keeps in its folder for the next one. */
const kept: readonly string[] = [lockFile, 'token', 'pod.json', 'jobs'];

/** Whether something of this name in a pod's folder is the pod's own. */
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
