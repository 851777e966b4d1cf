import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from 'commander';
import { PodError } from '../numerics/error.ts';
import { plainLine, quote } from '../numerics/quote.ts';
import { LogText } from '../observe/log-text.ts';
import type { PlaceFlags } from './job-client.ts';
import { printJobLog, withPlace } from './jobs.ts';
import { lives, needPod } from './local-pod.ts';
import { LogTail } from './log-tail.ts';
import { endWithReader } from './reader.ts';
import { isForPerson, screenOf } from './screen.ts';

interface LogFlags extends PlaceFlags {
  readonly tpu?: string;
  readonly follow?: boolean;
  readonly json?: boolean;
}

/** `pod logs`: prints the log of a pod's master, of a Cloud TPU or of a job. */
export function addLogs(program: Command): void {
  withPlace(
    program.command('logs').description('print the logs of a pod that pod up started, or of a job'),
  )
    .argument('[job]', 'print the log of this job, of a pod that takes jobs')
    .option('--tpu <k>', 'print the log of this Cloud TPU instead of that of the master')
    .option('--follow', 'print new lines too, until the pod or the job has ended')
    .option('--json', 'print lines of JSON on a terminal too (a pipe always gets JSON)')
    .action(async (job: string | undefined, { tpu, follow, json, ...place }: LogFlags) => {
      if (job !== undefined && tpu !== undefined) {
        throw new PodError(
          'bad-flag',
          `--tpu: expected none with a job, found ${tpu}; a job has one log for all its Cloud TPUs`,
        );
      }
      const how = { follow: follow === true, json: json === true };
      if (job === undefined) refuseJobFlags(place);
      if (job === undefined) await logs(place.dir ?? '.pod', tpu, how);
      else await printJobLog(job, place, how);
    });
}

/**
 * Refuses `--api` and `--token-file` if no job is named. The log of a job comes from the API of a
 * master, but the other logs are files that `pod up` writes on this machine.
 */
function refuseJobFlags({ api, tokenFile }: PlaceFlags): void {
  const flag = api !== undefined ? '--api' : tokenFile !== undefined ? '--token-file' : undefined;
  if (flag === undefined) return;
  const advice = 'without a job, pod logs reads the folder of --dir';
  throw new PodError('bad-flag', `${flag}: expected a job too, found none; ${advice}`);
}

async function logs(
  dir: string,
  tpu: string | undefined,
  { follow, json }: { readonly follow: boolean; readonly json: boolean },
): Promise<void> {
  const pod = needPod(dir);
  if (tpu !== undefined && !(/^\d{1,3}$/.test(tpu) && pod.workers[Number(tpu)])) {
    const most = pod.workers.length - 1;
    throw new PodError('bad-flag', `--tpu: expected 0 to ${most}, found ${quote(tpu)}`);
  }
  const writer = tpu === undefined ? pod.master : pod.workers[Number(tpu)];
  const path = join(dir, `${tpu === undefined ? 'master' : `tpu-${Number(tpu)}`}.log`);
  if (!existsSync(path)) throw new PodError('io', `${path}: expected a log, found none`);
  const tail = new LogTail(path);
  const text = new LogText(screenOf(process.stdout), 'reader');
  const isText = isForPerson(process.stdout) && !json;
  const print = (line: string): void => {
    if (isText) text.write(line);
    else process.stdout.write(`${isForPerson(process.stdout) ? plainLine(line) : line}\n`);
  };
  if (follow) endWithReader();
  for (let isLast = false; ; ) {
    for (const line of tail.lines()) print(line);
    if (!follow || isLast) break;
    isLast = !lives(writer);
    await sleep(200);
  }
  if (tail.rest() !== '') print(tail.rest());
}
