import { resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from 'commander';
import { removeSocketFiles } from '../../cluster/process/socket-file.ts';
import { isOurs, needProcesses } from './local-pod.ts';
import { untilStarted } from './start-lock.ts';

/** `pod down`. */
export function addDown(program: Command): void {
  program
    .command('down')
    .description('end the pod of pod up')
    .option('--dir <dir>', 'as given to pod up', '.pod')
    .action(async ({ dir }: { dir: string }) => {
      await down(dir);
    });
}

/** How long `down` waits for a peaceful end, in ms, before it ends what is left. */
const downMs = 12_000;
/** How long one that is killed may take to be gone, in ms. */
const killedMs = 2000;

/** Ends all processes of the pod in a folder. */
export async function down(dir: string): Promise<void> {
  needProcesses(dir);
  await untilStarted(resolve(dir));
  const { master, workers } = needProcesses(dir);
  // The master tells its workers that all is done.
  signalAll([master], 'SIGTERM');
  await ended([master], downMs);
  await ended(workers, 1000);
  // It may have started replacements until its end.
  const { all } = needProcesses(dir);
  signalAll(all, 'SIGTERM');
  await ended(all, downMs);
  signalAll(all, 'SIGKILL');
  await ended(all, killedMs);
  removeSocketFiles(all.filter((pid) => !isOurs(pid)));
}

async function ended(pids: readonly number[], withinMs: number): Promise<void> {
  for (let waitedMs = 0; waitedMs < withinMs && pids.some(isOurs); waitedMs += 50) await sleep(50);
}

/** Sends a signal to those processes of the pod that live. */
export function signalAll(pids: readonly number[], signal: NodeJS.Signals): void {
  for (const pid of pids.filter(isOurs)) {
    try {
      process.kill(pid, signal);
    } catch (error) {
      // It has ended meanwhile.
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
    }
  }
}
