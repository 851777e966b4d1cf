import { createServer } from 'node:net';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from 'commander';
import { exitCodeOf, onEnd } from '../../cluster/host/ending.ts';
import { readWord } from '../../cluster/host/environment.ts';
import { requireProcesses } from '../../cluster/host/room.ts';
import { startSupervisor } from '../../cluster/process/spawn.ts';
import { type PodEnd, readPodEnd } from '../../cluster/supervisor/pod-end.ts';
import { restartsFrom, Supervisor } from '../../cluster/supervisor/supervisor.ts';
import { errorCodes, PodError } from '../numerics/error.ts';
import { quote } from '../numerics/quote.ts';
import { counted } from '../observe/format.ts';
import { logLevels } from '../observe/log.ts';
import { exitCodes } from './exit-codes.ts';
import { FollowedLog } from './followed-log.ts';
import { request as ask } from './http.ts';
import { isErrorCode } from './job-client.ts';
import { tail } from './local-pod.ts';
import type { PodFile } from './pod-file.ts';
import { type TakenFolder, takeFolder } from './pod-folder.ts';
import { isForPerson } from './screen.ts';
import { addSettingFlags, refuseRepeats } from './settings/command.ts';
import type { RawOptions } from './settings/source.ts';
import { upRequest } from './settings/up.ts';
import { checkStart } from './start-check.ts';

const examples = `
Examples:
  pod up --tpus 8 --model mlp --wait       trains in 9 processes, and exits as pod train does
  pod up --tpus 8                          trains in the background
  pod up --serve --tpus 8                  waits for jobs: pod submit -- --model mlp, pod jobs
  pod status; pod logs --follow; pod logs --tpu 3; pod down

If the master crashes, it is started again, and the workers wait for it. With --wait, the first Ctrl-C,
SIGTERM or SIGHUP ends the pod after the present step, with a last checkpoint if --checkpoint is given;
the second ends the pod at once.
${exitCodes}`;

/** `pod up`: runs a pod as processes of this machine. */
export function addUp(program: Command): void {
  const command = program
    .command('up')
    .description('start a pod on this machine, with a process for each Cloud TPU');
  addSettingFlags(command, 'up')
    .option('--wait', 'show the run until it ends, and exit with its exit code')
    .option('--json', 'with --wait: print only the summary, as JSON (a pipe always gets this)')
    .option(
      '--serve',
      'run the jobs of pod submit instead of one run; of the settings, only --tpus and --topology apply',
    )
    .option(
      '--dir <dir>',
      'folder for the logs, the token and the process numbers of the pod',
      '.pod',
    )
    .option(
      '--log-level <level>',
      `least important lines of the logs: ${logLevels.join(', ')} (default: POD_LOG_LEVEL, or info)`,
    )
    .addHelpText('after', examples)
    .action(async ({ wait, json, serve, dir, logLevel, ...flags }: RawOptions) => {
      if (logLevel !== undefined) setLogLevel(String(logLevel));
      const options = { wait: wait === true, json: json === true, serve: serve === true };
      await up(String(dir), flags, options);
    });
  refuseRepeats(command);
}

/**
 * Sets the level of the logs of all programs of the pod: supervisor, master and workers inherit the
 * environment of this process.
 */
function setLogLevel(level: string): void {
  const known = logLevels.find((it) => it === level);
  if (known === undefined) {
    const expected = `expected ${logLevels.join(', ')}`;
    throw new PodError('bad-flag', `--log-level: ${expected}, found ${quote(level)}`);
  }
  process.env['POD_LOG_LEVEL'] = known;
}

interface UpOptions {
  readonly wait: boolean;
  readonly json: boolean;
  readonly serve: boolean;
}

async function up(dir: string, flags: RawOptions, { wait, json, serve }: UpOptions): Promise<void> {
  if (dir.trim() === '' || /\p{Cc}/u.test(dir))
    throw new PodError('bad-flag', `--dir: expected a folder, found ${quote(dir)}`);
  if (json && !wait) throw new PodError('bad-flag', '--json: expected --wait too, found none');
  const { run, ...request } = upRequest(flags, serve, process.cwd());
  requireProcesses(request.tpus);
  // These two calls throw if an environment variable is invalid. They come first, so that the
  // command then changes nothing on disk.
  restartsFrom(process.env);
  readWord(process.env, 'POD_LOG_LEVEL', logLevels);
  const folder = resolve(dir);
  const ports = await freePorts();
  const asked = { ...ports, ...request, serve };
  const check = async (): Promise<void> => run && checkStart(run, folder);
  const taken = await takeFolder({ dir, folder, asked, check });
  if (!taken.isNew)
    say(`the master of this pod had ended and was started again; logs are in ${dir}`);
  if (wait) await waitForEnd(folder, taken.pod, json);
  else await leaveRunning(dir, folder, taken);
}

/**
 * Supervises the pod in this process until the pod ends. The exit code of the pod becomes the exit
 * code of this command. On a terminal, shows the run. Into a pipe, or with `json`, prints only the
 * summary.
 */
async function waitForEnd(folder: string, pod: PodFile, json: boolean): Promise<void> {
  const log = join(folder, 'master.log');
  const shown = isForPerson(process.stdout) && !json ? new FollowedLog(log) : undefined;
  const tell = (line: string): void => {
    shown?.pause();
    complain(line);
  };
  const supervisor = new Supervisor({
    ...{ folder, pod },
    log: (msg, { cause }) => tell(`${msg}: ${cause}; the master is started again`),
  });
  onEnd(
    (signal) => {
      tell(`${signal}: the pod ends after this step; a second signal ends it at once`);
      supervisor.end(signal);
    },
    (signal) => supervisor.end(signal),
  );
  const end = await supervisor.run();
  shown?.close();
  process.exitCode = end.exitCode;
  if (end.reason !== undefined) complain(inWords(end));
  const last = tail(log, 1)[0] ?? '';
  if (shown === undefined && last.endsWith('"msg":"summary"}')) say(last);
}

/**
 * Starts a supervisor that goes on after this command has ended, and waits until the master
 * answers.
 */
async function leaveRunning(
  dir: string,
  folder: string,
  { lock, pod, isNew }: TakenFolder,
): Promise<void> {
  startSupervisor(folder, lock).unref();
  const place = dir === '.pod' ? '' : ` --dir ${dir}`;
  onEnd((signal) => {
    complain(`${signal}: the pod keeps running; pod down${place} ends it`);
    process.exit(exitCodeOf(signal));
  });
  const found = await untilThere(folder, pod);
  if (found !== 'answers') throw failed(dir, found);
  if (!isNew) return;
  const what = pod.serve ? 'wait for jobs' : 'are starting';
  const next = pod.serve ? 'pod submit -- FLAGS, pod jobs' : 'pod status, pod logs --follow';
  say(`${counted(pod.tpus, 'Cloud TPU')} and a master ${what}; logs are in ${dir}`);
  say(`next: ${next}, pod down${place && `, each with${place}`}`);
}

/** Longest time, in ms, that `pod up` waits for the first answer of the master that it starts. */
const answerMsLimit = 60_000;

/**
 * Waits until the master answers or the pod has ended. If neither happens within `answerMsLimit`
 * ms, returns a `PodEnd` with the code `worker-silent`, although the pod keeps running.
 */
async function untilThere(folder: string, { apiPort }: PodFile): Promise<'answers' | PodEnd> {
  const startMs = performance.now();
  while (performance.now() - startMs < answerMsLimit) {
    const end = readPodEnd(folder);
    if (end !== undefined) return end;
    if (await answers(apiPort)) return 'answers';
    await sleep(50);
  }
  const reason = `the master did not answer within ${answerMsLimit} ms; the pod keeps running (pod status shows it, pod down ends it)`;
  return { exitCode: errorCodes['worker-silent'], code: 'worker-silent', reason };
}

async function answers(port: number): Promise<boolean> {
  try {
    const asked = { path: '/healthz', answerMsMax: 1000 };
    return (await ask(`http://127.0.0.1:${port}`, asked)).status === 200;
  } catch (error) {
    if (error instanceof PodError) return false;
    throw error;
  }
}

function failed(dir: string, end: PodEnd): PodError {
  const code = end.code !== undefined && isErrorCode(end.code) ? end.code : 'worker-exited';
  const what = end.reason ?? `the user ended the pod while it started (exit code ${end.exitCode})`;
  return new PodError(code, `${what}; logs are in ${dir}`);
}

function inWords({ code, reason }: PodEnd): string {
  return code === undefined ? (reason ?? '') : `${code}: ${reason}`;
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}

function complain(line: string): void {
  process.stderr.write(`pod: ${line}\n`);
}

/** Returns two ports that no program uses now. */
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
