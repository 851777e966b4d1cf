import { join } from 'node:path';
import type { Command } from 'commander';
import { z } from 'zod';
import { PodError } from '../numerics/error.ts';
import { lives, needPod, type StartedPod, tail } from './local-pod.ts';

/** `pod status`. */
export function addStatus(program: Command): void {
  program
    .command('status')
    .description('show who is who in the pod of pod up')
    .option('--dir <dir>', 'as given to pod up', '.pod')
    .option('--json', 'print it as JSON')
    .action(async ({ dir, json }: { dir: string; json?: boolean }) => {
      await status(dir, json === true);
    });
}

const statusSchema = z.object({
  phase: z.string().optional(),
  epoch: z.number().optional(),
  tpus: z
    .array(
      z.object({
        tpu: z.number(),
        state: z.string(),
        pid: z.number().nullable(),
        host: z.string().nullable(),
      }),
    )
    .optional(),
  last: z
    .object({
      step: z.number(),
      steps: z.number(),
      loss: z.number(),
      digest: z.string(),
      imagesPerSecond: z.number(),
    })
    .optional(),
  linkBytes: z.record(z.string(), z.number()).optional(),
});

async function status(dir: string, json: boolean): Promise<void> {
  const pod = needPod(dir);
  const found = await askMaster(pod);
  if (json) {
    process.stdout.write(`${JSON.stringify(found ?? { phase: 'down' })}\n`);
    return;
  }
  if (found === undefined) {
    const [last = ''] = tail(join(dir, 'master.log'), 1);
    process.stdout.write(`the master is not running; its last words:\n${last}\n`);
    return;
  }
  const { phase = 'starting', epoch, tpus = [], last, linkBytes = {} } = found;
  const lines = [`${phase}${epoch === undefined ? '' : `, membership ${epoch}`}`];
  if (last !== undefined) {
    const rate = Math.round(last.imagesPerSecond);
    lines.push(`step ${last.step}/${last.steps}  loss ${last.loss.toFixed(4)}  ${rate} images/s`);
    lines.push(`weights ${last.digest}`);
  }
  for (const { tpu, state, pid, host } of tpus) {
    lines.push(`Cloud TPU ${tpu}  ${state}  pid ${pid ?? '-'}  ${host ?? '-'}`);
  }
  const busiest = Object.entries(linkBytes).sort(([, a], [, b]) => b - a);
  for (const [link, bytes] of busiest.slice(0, 8)) if (bytes > 0) lines.push(`${link}  ${bytes} B`);
  const errors = tail(join(dir, 'master.log'), 200).filter((it) => /"level":[56]0/.test(it));
  if (errors.length > 0) lines.push(`last error: ${errors.at(-1)}`);
  process.stdout.write(`${lines.join('\n')}\n`);
}

async function askMaster({
  apiPort,
  master,
}: StartedPod): Promise<z.infer<typeof statusSchema> | undefined> {
  if (!lives(master)) return undefined;
  try {
    const response = await fetch(`http://127.0.0.1:${apiPort}/status`, {
      signal: AbortSignal.timeout(5000),
    });
    return statusSchema.parse(await response.json());
  } catch (cause) {
    throw new PodError('worker-silent', `the master (pid ${master?.pid}) does not answer`, cause);
  }
}
