/**
 * The supervisor of a pod that `pod up` started in the background. The supervisor starts the
 * master, restarts the master after a crash, and ends the remaining processes when the run has
 * ended. Usage: node main.js FOLDER, with the lock of the folder as file descriptor 3.
 */
import { pino } from 'pino';
import { readPodFile } from '../../src/cli/pod-file.ts';
import { PodError } from '../../src/numerics/error.ts';
import { type EndSignal, onEnd } from '../host/ending.ts';
import { keepLock } from '../host/lock.ts';
import { supervisorLock } from '../process/spawn.ts';
import { describeError } from '../worker/last-words.ts';
import { LogOutput, levelOf } from '../worker/log-output.ts';
import { writePodEnd } from './pod-end.ts';
import { Supervisor } from './supervisor.ts';

const logger = pino({ base: { role: 'supervisor' }, level: levelOf(process.env) }, new LogOutput());
const folder = process.argv[2] ?? '';

run().then((exitCode) => process.exit(exitCode), fail);

async function run(): Promise<number> {
  keepLock(supervisorLock, folder, 'pod up');
  const pod = readPodFile(folder);
  if (pod === undefined) throw new PodError('bad-config', `${folder}: expected a pod, found none`);
  const log = (msg: string, fields: object): void => logger.info(fields, msg);
  const supervisor = new Supervisor({ folder, pod, log });
  const end = (signal: EndSignal): void => supervisor.end(signal);
  // Both signals go to the master: the first asks it to end after the running step, the second
  // makes it end at once.
  onEnd(end, end);
  const ended = await supervisor.run();
  logger.info(ended, 'pod-ended');
  return ended.exitCode;
}

function fail(error: unknown): void {
  const { code, exitCode, message, stack } = describeError(error);
  logger.error({ code, stack }, message);
  writePodEnd(folder, { exitCode, code, reason: message });
  process.exit(exitCode);
}
