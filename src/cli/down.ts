import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from 'commander';
import { holderOf, holdingProcess } from '../../cluster/host/lock.ts';
import { processesOfFolder } from '../../cluster/process/of-folder.ts';
import { readPodEnd } from '../../cluster/supervisor/pod-end.ts';
import { endWorkers, signalTo, untilEnded } from '../../cluster/supervisor/supervisor.ts';
import { PodError } from '../numerics/error.ts';
import { oneLine } from '../numerics/quote.ts';
import { counted } from '../observe/format.ts';
import { listedProcesses, lives } from './local-pod.ts';

const examples = `
Examples:
  pod down                 ends the pod in .pod after its step, with a last checkpoint if it has --checkpoint
  pod down --dir DIR       ends the pod in DIR

It is no error if the pod has ended already. Exit codes: 0 no process of the pod is left, 2 there is no
pod or its list of processes is damaged, 5 the list cannot be read.
`;

/** `pod down`: ends the processes of a pod that `pod up` started. */
export function addDown(program: Command): void {
  program
    .command('down')
    .description('end a pod that pod up started')
    .option('--dir <dir>', 'folder of the pod, as given to pod up', '.pod')
    .addHelpText('after', examples)
    .action(async ({ dir }: { dir: string }) => {
      process.stdout.write(`${await down(dir)}\n`);
    });
}

/** Longest time, in ms, that `pod down` waits for a concurrent `pod up` of the same folder. */
const startMsLimit = 10_000;
/**
 * Longest time, in ms, that a master may take to end after SIGTERM. The master first finishes the
 * step that is running.
 */
const masterMs = 12_000;
/**
 * Longest time, in ms, that a supervisor may take to end the workers, counted from the end of the
 * master.
 */
const supervisorMs = 20_000;
/**
 * Longest time, in ms, for which the pod's folder may stay locked after the process that locked it
 * has ended.
 */
const freeMsLimit = 3000;

/**
 * Ends all processes of the pod in the folder `dir`. Returns a line that tells the user what ended.
 */
async function down(dir: string): Promise<string> {
  await untilStarted(dir);
  const listed = listedProcesses(dir);
  if (listed instanceof PodError) return await endUnlisted(dir, listed);
  const { master, workers } = listed;
  const supervisor = lives(listed.supervisor) ? listed.supervisor : holdingProcess(dir);
  const ended = inWords(lives(master), workers.filter(lives).length);
  if (!lives(supervisor) && !listed.all.some(lives)) {
    await untilFree(dir);
    const how = readPodEnd(dir)?.reason;
    return `${dir}: the pod had ended already${how === undefined ? '' : `: ${oneLine(how)}`}`;
  }
  if (lives(supervisor)) {
    signalTo(supervisor, 'SIGTERM');
    await untilEnded([supervisor], masterMs + supervisorMs);
  } else {
    signalTo(master, 'SIGTERM');
    await untilEnded([master], masterMs);
  }
  await endWorkers(dir);
  await untilFree(dir);
  return `${dir}: ended ${ended}`;
}

function inWords(hadMaster: boolean, workers: number): string {
  if (workers === 0) return hadMaster ? 'the master, which had no workers' : 'the supervisor';
  const workersInWords = counted(workers, 'worker');
  return hadMaster ? `the master and ${workersInWords}` : workersInWords;
}

/**
 * Ends a pod whose list of processes is missing or damaged. Some processes of the pod can be found
 * without the list: the process that holds the lock of the folder `dir`, and masters and workers
 * whose environment variables name the folder. The function ends these processes. Others may still
 * run, so the function always throws an error, which names the processes that it ended.
 */
async function endUnlisted(dir: string, { code, message }: PodError): Promise<never> {
  const holder = holdingProcess(dir);
  const found = processesOfFolder(dir);
  signalTo(holder, 'SIGTERM');
  await untilEnded([holder], masterMs + supervisorMs);
  await endWorkers(dir);
  await untilFree(dir);
  const all = [...(holder === undefined ? [] : [holder]), ...found].map(({ pid }) => pid);
  const done =
    all.length === 0 ? 'found no process of the pod' : `ended the processes ${all.join(', ')}`;
  throw new PodError(
    code,
    `${message}; ${done}; end any process that is left (find it with ps), then remove this file`,
  );
}

/**
 * Waits until no process holds the lock of the folder. The lock of a process becomes free only when
 * its last thread ends, shortly after the system reports that the process has ended.
 *
 * @throws PodError `in-use` if a process still holds the lock after `freeMsLimit` ms.
 */
async function untilFree(dir: string): Promise<void> {
  const startMs = performance.now();
  for (let holder = holderOf(dir); holder !== undefined; holder = holderOf(dir)) {
    if (performance.now() - startMs > freeMsLimit) {
      throw new PodError(
        'in-use',
        `--dir ${dir}: the folder is still in use by ${holder}; end that process (kill)`,
      );
    }
    await sleep(20);
  }
}

/**
 * Waits, at most `startMsLimit` ms, for a concurrent `pod up` that has locked the folder but has
 * not started the processes of its pod yet.
 */
async function untilStarted(dir: string): Promise<void> {
  const startMs = performance.now();
  const isStarting = (): boolean => {
    const listed = listedProcesses(dir);
    if (listed instanceof PodError || holderOf(dir) === undefined) return false;
    return !lives(listed.supervisor) && !lives(listed.master);
  };
  while (isStarting() && performance.now() - startMs < startMsLimit) await sleep(50);
}
