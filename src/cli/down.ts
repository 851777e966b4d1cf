import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from 'commander';
import { holderOf } from '../../cluster/host/lock.ts';
import { readPodEnd } from '../../cluster/supervisor/pod-end.ts';
import { endWorkers, signalTo, untilEnded } from '../../cluster/supervisor/supervisor.ts';
import { lives, needProcesses } from './local-pod.ts';

const examples = `
Examples:
  pod down                        the pod of .pod: its step ends, and it is saved if there is a --checkpoint
  pod down --dir DIR              the pod of another folder

A pod that has ended already is no error. Exit codes: 0 nothing of the pod is left, 2 there is no pod.
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

/** Ends all processes of the pod in a folder; says what it ended. */
async function down(dir: string): Promise<string> {
  needProcesses(dir);
  await untilStarted(dir);
  const { supervisor, master, all } = needProcesses(dir);
  const living = all.filter(lives).length;
  if (living === 0 && !lives(supervisor)) {
    const how = readPodEnd(dir)?.reason;
    return `${dir}: the pod had ended already${how === undefined ? '' : `: ${how}`}`;
  }
  if (lives(supervisor)) {
    signalTo(supervisor, 'SIGTERM');
    await untilEnded([supervisor], masterMs + supervisorMs);
  } else {
    signalTo(master, 'SIGTERM');
    await untilEnded([master], masterMs);
  }
  await endWorkers(dir);
  const workers = living - (lives(master) ? 0 : 1);
  return `${dir}: ended the master and ${workers} worker${workers === 1 ? '' : 's'}`;
}

/** Waits until the command that starts the pod has done so, for as long as that may take. */
async function untilStarted(dir: string): Promise<void> {
  const startMs = performance.now();
  const isStarting = (): boolean => {
    const { supervisor, master } = needProcesses(dir);
    return holderOf(dir) !== undefined && !lives(supervisor) && !lives(master);
  };
  while (isStarting() && performance.now() - startMs < startMsLimit) await sleep(50);
}
