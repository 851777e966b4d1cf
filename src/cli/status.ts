import type { Command } from 'commander';
import { z } from 'zod';
import type { SeenEnd } from '../../cluster/supervisor/pod-end.ts';
import { slowestAmongOthers } from '../experiment/straggler.ts';
import { errorCodes, PodError } from '../numerics/error.ts';
import { jsonText, oneLine, plainLines } from '../numerics/quote.ts';
import { bytes, columns, count, milliseconds } from '../observe/format.ts';
import { getJson, request } from './http.ts';
import {
  findMaster,
  type MasterFlags,
  type MasterPlace,
  whereMasterIs,
  withMaster,
} from './place.ts';
import { endInWords, lastError, podState } from './pod-state.ts';

const statusExamples = `
Examples:
  pod status                                         the pod in .pod
  docker compose exec master pod status              from inside a pod of containers
  pod status --api http://127.0.0.1:7080             a pod whose API is reachable
${whereMasterIs}
Exit codes: 0 the pod is running, 2 there is no pod, 3 the pod has ended or does not answer.
`;

const metricsExamples = `
Examples:
  pod metrics                                        the metrics of the pod in .pod
  docker compose exec master pod metrics             from inside a pod of containers
${whereMasterIs}`;

/** `pod status` and `pod metrics`: show the state and the metrics of a pod. */
export function addStatus(program: Command): void {
  withMaster(program.command('status').description('show the members of a pod and its progress'))
    .option('--json', 'print the status as JSON')
    .addHelpText('after', statusExamples)
    .action(async ({ json, ...flags }: MasterFlags & { json?: boolean }) => {
      await status(findMaster(flags), json === true);
    });
  withMaster(
    program
      .command('metrics')
      .description("print a pod's metrics in the text format of Prometheus"),
  )
    .addHelpText('after', metricsExamples)
    .action(async (flags: MasterFlags) => await metrics(findMaster(flags)));
}

/** Schema of what this command shows of the answer of `/status`. All other fields are kept. */
const statusSchema = z.looseObject({
  phase: z.string().optional(),
  generation: z.number().optional(),
  tpus: z.number().optional(),
  members: z
    .array(
      z.looseObject({
        ...{ tpu: z.number(), state: z.string(), pid: z.number().nullable() },
        ...{ host: z.string().nullable(), hostname: z.string().nullable().optional() },
      }),
    )
    .optional(),
  last: z
    .looseObject({
      ...{ step: z.number(), steps: z.number(), loss: z.number(), digest: z.string() },
      imagesPerSecond: z.number(),
      slowest: z
        .looseObject({ tpu: z.number(), ownMs: z.number(), othersMs: z.number() })
        .optional(),
      timing: z
        .looseObject({
          ...{ slowestPhase: z.string(), slowestSince: z.number(), causedMs: z.number() },
          slowestLink: z.looseObject({ link: z.string(), waitMs: z.number() }).optional(),
        })
        .optional(),
      longest: z.record(z.string(), z.looseObject({ tpu: z.number(), ms: z.number() })).optional(),
    })
    .optional(),
  linkBytes: z.record(z.string(), z.number()).optional(),
});
type Status = z.infer<typeof statusSchema>;

const answerMsMax = 5000;
const linksShown = 8;

async function status({ origin, folder }: MasterPlace, json: boolean): Promise<void> {
  const state = folder === undefined ? undefined : podState(folder);
  if (folder !== undefined && state?.kind === 'ended') {
    sayEnd(folder, state.end, json);
    return;
  }
  if (state?.kind === 'restarts') {
    print(json ? JSON.stringify({ phase: 'restarting' }) : 'the master is being started again');
    return;
  }
  await showMaster(origin, folder, json);
  if (state?.kind === 'lives' && state.damage !== undefined) throw state.damage;
}

async function showMaster(
  origin: string,
  folder: string | undefined,
  json: boolean,
): Promise<void> {
  const found = statusSchema.safeParse(await getJson(origin, { path: '/status', answerMsMax }));
  if (!found.success) {
    throw new PodError(
      'bad-config',
      `${origin}: expected the API of a master, found another server`,
    );
  }
  const error = folder === undefined ? undefined : lastError(folder);
  print(json ? jsonText(found.data) : linesOf(found.data, error).join('\n'));
}

/**
 * Prints how the pod has ended. Sets the exit code of the error `worker-exited`, which tells
 * scripts that the pod is not running.
 */
function sayEnd(folder: string, end: SeenEnd | undefined, json: boolean): void {
  print(json ? jsonText({ phase: 'down', ...end }) : `${folder}: ${endInWords(folder, end)}`);
  process.exitCode = errorCodes['worker-exited'];
}

function linesOf(status: Status, error?: string): string[] {
  const { phase, generation, members, last, linkBytes } = status;
  const lines = [
    `${phase ?? 'idle'}${generation === undefined ? '' : `, generation ${generation}`}`,
  ];
  if (last !== undefined) {
    const { step, steps, loss, imagesPerSecond, digest } = last;
    const rate = `${count(imagesPerSecond)} images/s`;
    lines.push(`step ${step}/${steps}  loss ${loss.toFixed(4)}  ${rate}`, `weights ${digest}`);
    lines.push(...slowestLines(last));
  }
  for (const { tpu, state, pid, host, hostname } of members ?? []) {
    const where = [host ?? '-', ...(hostname === host || !hostname ? [] : [`(${hostname})`])];
    lines.push(`Cloud TPU ${tpu}  ${state}  pid ${pid ?? '-'}  ${where.join(' ')}`);
  }
  const busiest = Object.entries(linkBytes ?? {}).sort(([, a], [, b]) => b - a);
  const links = busiest.slice(0, linksShown).filter(([, it]) => it > 0);
  lines.push(...columns(links.map(([link, it]) => [link, bytes(it)])));
  if (error !== undefined) lines.push(`last error: ${error}`);
  // A line may contain text that the master has sent, so control characters are escaped.
  return lines.map((line) => oneLine(line));
}

/**
 * Returns the lines about the slowest Cloud TPU of the last step. They say how long the others
 * waited for it. For each phase of the step, a line has the longest time and the Cloud TPU that
 * took it.
 */
function slowestLines(last: NonNullable<Status['last']>): string[] {
  const found = slowestAmongOthers(last);
  if (found === undefined) return [];
  const { step, longest } = last;
  const { slowest, timing } = found;
  const { slowestPhase, slowestSince, causedMs, slowestLink: link } = timing;
  const since = slowestSince === step ? 'only in this step' : `since step ${slowestSince}`;
  const own = `${milliseconds(slowest.ownMs)} of its own work, the others`;
  return [
    `slowest Cloud TPU ${slowest.tpu}, ${since}: ${own} ${milliseconds(slowest.othersMs)}`,
    `its longest phase ${slowestPhase}; each of the others waited ${milliseconds(causedMs)} for it`,
    ...(link
      ? [`longest wait for its frames ${milliseconds(link.waitMs)}, link ${link.link}`]
      : []),
    ...columns(
      Object.entries(longest ?? {}).map(([phase, { tpu, ms }]) => [
        `longest ${phase}`,
        milliseconds(ms),
        `Cloud TPU ${tpu}`,
      ]),
    ),
  ];
}

async function metrics({ origin, folder }: MasterPlace): Promise<void> {
  const state = folder === undefined ? undefined : podState(folder);
  if (folder !== undefined && state?.kind === 'ended') {
    throw new PodError('worker-exited', `${folder}: ${endInWords(folder, state.end)}`);
  }
  const { status: code, text } = await request(origin, { path: '/metrics', answerMsMax });
  if (code !== 200) {
    throw new PodError('worker-silent', `${origin}/metrics: expected status 200, found ${code}`);
  }
  process.stdout.write(plainLines(text));
}

function print(text: string): void {
  process.stdout.write(`${text}\n`);
}
