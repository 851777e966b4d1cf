import type { ChildProcess } from 'node:child_process';
import { readdirSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from 'commander';
import { z } from 'zod';
import { makeToken } from '../../cluster/image/token-file.ts';
import { attempt } from '../../cluster/master/jobs.ts';
import { removeSocketFiles } from '../../cluster/process/socket-file.ts';
import { readProcesses, startProcess, workerEnv } from '../../cluster/process/spawn.ts';
import { cloudTpus } from '../experiment/config.ts';
import { type ErrorCode, errorCodes, PodError } from '../numerics/error.ts';
import { down, signalAll } from './down.ts';
import { withTrainFlags } from './flags.ts';
import { isOurs, needPod, needProcesses, tail } from './local-pod.ts';
import { type RawOptions, trainOptions } from './options.ts';
import { makeFolder, type PodFile, readPodFile, writePodFile } from './pod-file.ts';
import { whileStarting } from './start-lock.ts';

const examples = `
Examples:
  pod up --tpus 8 --model mlp --wait       trains in 9 processes, and ends as the run does
  pod up --tpus 8                          leaves them running
  pod up --serve --tpus 8                  stays up: pod submit -- --model mlp, pod jobs
  pod status; pod logs --follow; pod logs --tpu 3; pod down
`;

/** `pod up`: a pod as processes of this machine. */
export function addUp(program: Command): void {
  withTrainFlags(
    program.command('up').description('train in a process for each Cloud TPU on this machine'),
  )
    .option('--checkpoint <dir>', 'save checkpoints to this directory')
    .option('--every <n>', 'steps from one checkpoint to the next (default 100)')
    .option('--keep <n>', 'checkpoints that are left, the newest ones (default 3)')
    .option('--resume', 'go on from the newest good checkpoint, if there is one')
    .option('--report <file>', 'write the result as JSON to this file')
    .option('--wait', 'wait for the end, and exit as the run does')
    .option('--serve', 'stay up and take jobs: pod submit; other flags but --tpus are of the jobs')
    .option('--dir <dir>', 'where logs, token and process numbers are kept', '.pod')
    .addHelpText('after', examples)
    .action(async ({ wait, serve, dir, ...flags }: RawOptions) => {
      await up(String(dir), flags, { wait: wait === true, serve: serve === true });
    });
}

interface UpOptions {
  readonly wait: boolean;
  readonly serve: boolean;
}

async function up(dir: string, flags: RawOptions, { wait, serve }: UpOptions): Promise<void> {
  const tpus = cloudTpus(trainOptions(flags).config);
  const folder = resolve(dir);
  const ports = await freePorts();
  const asked = { ...ports, args: wordsOf(flags).join(' '), serve, tpus };
  const { processes, isNew } = attempt(`--dir ${dir}`, () => {
    makeFolder(folder);
    return whileStarting(folder, () => start(dir, folder, asked));
  });
  if (!isNew) process.stdout.write(`the master had ended: started again; logs are in ${dir}\n`);
  await finish(dir, processes, wait);
  if (wait || !isNew) return;
  const what = serve ? 'wait for jobs' : 'are starting';
  process.stdout.write(`${tpus} Cloud TPUs and a master ${what}; logs are in ${dir}\n`);
}

interface Started {
  /** The master first. */
  readonly processes: ChildProcess[];
  /** Whether there was no pod; else only its master was started. */
  readonly isNew: boolean;
}

function start(dir: string, folder: string, asked: PodFile): Started {
  const before = readProcesses(folder);
  const isThere = before?.all.some(isOurs) === true;
  const known = isThere ? readPodFile(folder) : undefined;
  const isSame = known?.args === asked.args && known.serve === asked.serve;
  if (isThere && (known === undefined || !isSame || isOurs(before.master))) {
    throw new PodError('bad-flag', `--dir ${dir}: a pod is running there; use pod down first`);
  }
  if (known !== undefined) return { processes: [startMaster(folder, known)], isNew: false };
  removeSocketFiles(before?.all ?? []);
  for (const file of readdirSync(folder)) if (leftovers.test(file)) rmSync(join(folder, file));
  makeToken(join(folder, 'token'));
  writePodFile(folder, asked);
  const master = startMaster(folder, asked);
  const workers = Array.from({ length: asked.tpus }, (_, tpu) => {
    const env = { ...commonEnv(folder), ...workerEnv(tpu, asked.controlPort) };
    return startProcess(folder, `tpu-${tpu}`, env);
  });
  return { processes: [master, ...workers], isNew: true };
}

/** Of a pod that ran before in the same folder; jobs and checkpoints are kept. */
const leftovers = /\.log$|^processes$|^(ended-)?commits\.jsonl$/;

function startMaster(folder: string, pod: PodFile): ChildProcess {
  const { controlPort, apiPort, args, serve, tpus } = pod;
  return startProcess(folder, 'master', {
    ...commonEnv(folder),
    ...(serve
      ? { POD_MODE: 'serve', TPUS: String(tpus), POD_ARGS: '' }
      : { POD_MODE: 'job', TPUS: '', POD_ARGS: args }),
    ...{ POD_DATA_DIR: folder, POD_FOLDER: folder },
    ...{ POD_CONTROL_HOST: '127.0.0.1', POD_CONTROL_PORT: String(controlPort) },
    ...{ POD_API_HOST: '127.0.0.1', POD_API_PORT: String(apiPort) },
  });
}

function commonEnv(folder: string): NodeJS.ProcessEnv {
  const token = join(folder, 'token');
  return { ...process.env, POD_TOKEN_FILE: token, POD_JOB: `pod-${process.pid}` };
}

/** Leaves them running, or waits for the master's end. */
async function finish(
  dir: string,
  [master, ...workers]: ChildProcess[],
  wait: boolean,
): Promise<void> {
  if (master === undefined) return;
  if (wait) {
    await waitFor(dir, master);
    return;
  }
  await untilAnswers(dir, master);
  for (const child of [master, ...workers]) child?.unref();
}

/** How long a master may take until it answers, in ms. */
const answerMsLimit = 20_000;

/** Waits until the master answers, or has ended: then its log says why. */
async function untilAnswers(dir: string, master: ChildProcess): Promise<void> {
  const { apiPort } = needPod(dir);
  for (const deadlineMs = Date.now() + answerMsLimit; Date.now() < deadlineMs; await sleep(50)) {
    if (master.exitCode !== null || master.signalCode !== null) break;
    try {
      const signal = AbortSignal.timeout(1000);
      await fetch(`http://127.0.0.1:${apiPort}/healthz`, { signal });
      return;
    } catch {
      // Nobody listens yet.
    }
  }
  await down(dir);
  const isAsked = master.exitCode === 0 || master.signalCode === 'SIGTERM';
  if (isAsked) throw new PodError('worker-exited', 'the master was told to end as it started');
  throw lastWords(dir) ?? saysNothing(dir, 'the master did not start', master.exitCode);
}

const wordsSchema = z.object({
  code: z.enum(Object.keys(errorCodes) as [ErrorCode, ...ErrorCode[]]),
  msg: z.string(),
});

/** Why a master has ended, if the end of its log says so. */
function lastWords(dir: string): PodError | undefined {
  const said = tail(join(dir, 'master.log'), 50).flatMap((line) => {
    const { success, data } = wordsSchema.safeParse(jsonOf(line));
    return success ? [new PodError(data.code, data.msg)] : [];
  });
  return said.at(-1);
}

function saysNothing(dir: string, what: string, exitCode: number | null): PodError {
  const path = join(dir, 'master.log');
  const code = exitCode === errorCodes.io ? 'io' : 'worker-exited';
  return new PodError(code, `${what}, and ${path} does not say why: is the disk full?`);
}

function jsonOf(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}

/** The exit code of a master that was asked to end twice: it does not wait for its step. */
const signalledTwice = 143;

/** How often a master that was killed is started again. */
const restartsMax = 5;

/** Ends as the master does; what ends this ends the pod. A master that is killed is started again. */
async function waitFor(dir: string, first: ChildProcess): Promise<void> {
  let ending: Promise<void> | undefined;
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.on(signal, () => {
      // The second one is the master's as well: it ends at once.
      if (ending !== undefined) signalAll([needProcesses(dir).master], signal);
      ending ??= down(dir);
    });
  }
  let code = await endOf(first);
  for (let restarts = 0; code === null && restarts < restartsMax && !ending; restarts++) {
    code = await endOf(startMaster(resolve(dir), needPod(dir)));
  }
  await (ending ?? down(dir));
  if (code === 0) {
    process.stdout.write(`${tail(join(dir, 'master.log'), 1)[0]}\n`);
    return;
  }
  process.exitCode = code ?? 3;
  const how = code === null ? 'was killed' : `ended with exit code ${code}`;
  const isAsked = code === signalledTwice;
  const why = isAsked ? undefined : (lastWords(dir) ?? saysNothing(dir, `the master ${how}`, code));
  const text =
    why === undefined ? 'the step that ran was abandoned' : `${why.code}: ${why.message}`;
  process.stderr.write(`pod: ${text}\n`);
}

/** The exit code of a process; null when a signal has ended it. */
function endOf(child: ChildProcess): Promise<number | null> {
  return new Promise((done) => {
    child.once('exit', (status, signal) => done(status ?? (signal === null ? 1 : null)));
  });
}

/** The flags again, as words that `POD_ARGS` can hold. */
function wordsOf(flags: RawOptions): string[] {
  return Object.entries(flags).flatMap(([key, value]) => {
    const name = key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
    if (value === undefined || (key === 'relaxedSimd' && value === true)) return [];
    if (typeof value === 'boolean') return [value ? `--${name}` : `--no-${name}`];
    return [`--${name}`, quoted(String(value))];
  });
}

function quoted(word: string): string {
  if (!word.includes("'")) return `'${word}'`;
  if (!word.includes('"')) return `"${word}"`;
  throw new PodError('bad-flag', `expected no flag with both kinds of quotes, found ${word}`);
}

/** Two ports that nobody uses now. */
async function freePorts(): Promise<Pick<PodFile, 'controlPort' | 'apiPort'>> {
  const servers = [createServer(), createServer()];
  const ports = await Promise.all(
    servers.map(
      (server) =>
        new Promise<number>((found, failed) => {
          server.once('error', failed);
          server.listen({ host: '127.0.0.1', port: 0 }, () => {
            const address = server.address();
            found(typeof address === 'object' ? (address?.port ?? 0) : 0);
          });
        }),
    ),
  );
  await Promise.all(servers.map((server) => new Promise((closed) => server.close(closed))));
  return { controlPort: ports[0] ?? 0, apiPort: ports[1] ?? 0 };
}
