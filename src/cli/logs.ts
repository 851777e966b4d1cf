import { closeSync, existsSync, openSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from 'commander';
import { PodError } from '../numerics/error.ts';
import type { PlaceFlags } from './job-client.ts';
import { printJobLog, withPlace } from './jobs.ts';
import { lives, needPod } from './local-pod.ts';

interface LogFlags extends PlaceFlags {
  readonly tpu?: string;
  readonly follow?: boolean;
}

/** `pod logs`. */
export function addLogs(program: Command): void {
  withPlace(program.command('logs').description('print the logs of the pod of pod up, or of a job'))
    .argument('[job]', 'of this job of a pod that takes jobs')
    .option('--tpu <k>', 'of this Cloud TPU instead of the master')
    .option('--follow', 'go on until the pod, or the job, has ended')
    .action(async (job: string | undefined, { tpu, follow, ...place }: LogFlags) => {
      if (job !== undefined && tpu !== undefined) {
        throw new PodError('bad-flag', `--tpu: expected none with a job, found ${tpu}`);
      }
      if (job === undefined) await logs(place.dir ?? '.pod', tpu, follow === true);
      else await printJobLog(job, place, follow === true);
    });
}

async function logs(dir: string, tpu: string | undefined, follow: boolean): Promise<void> {
  const pod = needPod(dir);
  if (tpu !== undefined && pod.workers[Number(tpu)] === undefined) {
    const most = pod.workers.length - 1;
    throw new PodError('bad-flag', `--tpu: expected 0 to ${most}, found ${tpu}`);
  }
  const writer = tpu === undefined ? pod.master : pod.workers[Number(tpu)];
  const path = join(dir, `${tpu === undefined ? 'master' : `tpu-${Number(tpu)}`}.log`);
  if (!existsSync(path)) throw new PodError('io', `${path}: expected a log, found none`);
  const file = openSync(path, 'r');
  const piece = Buffer.alloc(65536);
  for (let isLast = false; ; ) {
    for (let n = readSync(file, piece); n > 0; n = readSync(file, piece)) {
      process.stdout.write(Buffer.from(piece.subarray(0, n)));
    }
    if (!follow || isLast) break;
    isLast = !lives(writer);
    await sleep(200);
  }
  closeSync(file);
}
