import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from 'commander';
import { holderOf, holdingProcess } from '../../cluster/host/lock.ts';
import { processesOfFolder } from '../../cluster/process/of-folder.ts';
import { readPodEnd } from '../../cluster/supervisor/pod-end.ts';
import { endWorkers, signalTo, untilEnded } from '../../cluster/supervisor/supervisor.ts';
import { PodError } from '../numerics/error.ts';
import { oneLine } from '../numerics/quote.ts';
import { listedProcesses, lives } from './local-pod.ts';

const examples = `
Examples:
  pod down                        the pod of .pod: its step ends, and it is saved if there is a --checkpoint
  pod down --dir DIR              the pod of another folder

A pod that has ended already is no error. Exit codes: 0 nothing of the pod is left, 2 there is no pod, or
its list of processes is damaged, 5 it cannot be read.
`;

/** `pod down`. */
export function addDown(program: Command): void {
  program
    .command('down')
    .description('end the pod of pod up')
    .option('--dir <dir>', 'as given to pod up', '.pod')
    .addHelpText('after', examples)
    .action(async ({ dir }: { dir: string }) => {
      process.stdout.write(`${await down(dir)}\n`);
    });
}

/** How long a pod that another command is starting is waited for, in ms. */
const startMsLimit = 10_000;
/** How long a master may take to end, in ms: it lets its step come to its end. */
const masterMs = 12_000;
/** How long a supervisor may take to end what is left, in ms. */
const supervisorMs = 20_000;
/** How long the lock of a folder may outlast the process that held it, in ms. */
const freeMsLimit = 3000;

/** Ends all processes of the pod in a folder; says what it ended. */
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
  const workersInWords = `${workers} worker${workers === 1 ? '' : 's'}`;
  return hadMaster ? `the master and ${workersInWords}` : workersInWords;
}

/** Ends the process that holds the folder, and all of its pod that can be found. Always throws: some may be left. */
async function endUnlisted(dir: string, { code, message }: PodError): Promise<never> {
  const holder = holdingProcess(dir);
  const found = processesOfFolder(dir);
  signalTo(holder, 'SIGTERM');
  await untilEnded([holder], masterMs + supervisorMs);
  await endWorkers(dir);
  await untilFree(dir);
  const all = [...(holder === undefined ? [] : [holder]), ...found].map(({ pid }) => pid);
  const done = all.length === 0 ? 'found no process of the pod' : `ended ${all.join(', ')}`;
  throw new PodError(
    code,
    `${message}; ${done}; end what is left, if anything (ps), and remove it`,
  );
}

/**
 * Waits until nobody holds the folder: a process whose threads end one by one does so a little longer
 * than it lives.
 *
 * @throws PodError `in-use` when somebody goes on holding it: that pod runs, whatever else is said.
 */
async function untilFree(dir: string): Promise<void> {
  const startMs = performance.now();
  for (let holder = holderOf(dir); holder !== undefined; holder = holderOf(dir)) {
    if (performance.now() - startMs > freeMsLimit) {
      throw new PodError(
        'in-use',
        `--dir ${dir}: still held by ${holder}; end that process (kill)`,
      );
    }
    await sleep(20);
  }
}

/** Waits until the command that starts the pod has done so, for as long as that may take. */
async function untilStarted(dir: string): Promise<void> {
  const startMs = performance.now();
  const isStarting = (): boolean => {
    const listed = listedProcesses(dir);
    if (listed instanceof PodError || holderOf(dir) === undefined) return false;
    return !lives(listed.supervisor) && !lives(listed.master);
  };
  while (isStarting() && performance.now() - startMs < startMsLimit) await sleep(50);
}
