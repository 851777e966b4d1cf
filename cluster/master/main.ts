/**
 * The master: waits for a worker for each Cloud TPU, trains what `POD_ARGS` (the flags of
 * `pod train`) says, and exits as `pod train` does. Its last line of log is the summary. With
 * `POD_MODE=serve` it stays up and takes jobs instead. docs/OPERATING.md lists its environment.
 */
import { setFlagsFromString } from 'node:v8';
import { CommanderError } from 'commander';
import { type Logger, pino } from 'pino';
import { PodError } from '../../src/numerics/error.ts';
import { logEvent } from '../../src/observe/log.ts';
import { isFinal } from '../final.ts';
import { onEnd } from '../host/ending.ts';
import { splitWords } from '../image/words.ts';
import { readToken } from '../net/token.ts';
import { Lobby } from '../process/lobby.ts';
import { startProcess, workerEnv } from '../process/spawn.ts';
import { describeError } from '../worker/last-words.ts';
import { LogOutput } from '../worker/log-output.ts';
import { type ProcessStatus, statusPath, writeStatus } from '../worker/status-file.ts';
import { serveApi } from './api.ts';
import { Doorkeeper } from './auth.ts';
import { type JobEnd, runJob } from './job.ts';
import { Metrics } from './metrics.ts';
import { retire } from './retire.ts';
import { RunState } from './run-state.ts';
import { JobServer, type RunJob } from './serve.ts';
import { readJobWords, readWords } from './words.ts';

const { env } = process;
const job = env['POD_JOB'] ?? 'pod';
const output = new LogOutput();
const logger = pino({ base: { job, role: 'master' } }, output);
const statusFile = statusPath(env);
const folder = env['POD_DATA_DIR'] ?? '/data';

/** A step that is under way when it is told to end may take this long, in ms. */
const graceMs = 8000;

process.on('uncaughtException', (error) => process.exit(refuse(error)));
// What many connections leave behind is collected when the heap has grown by half: left to itself it
// grows fourfold first (the fuzzer shows it).
setFlagsFromString('--heap-growing-percent=50');
try {
  saySo('starting');
  await run();
  process.exit(0);
} catch (error) {
  process.exit(refuse(error));
}

function run(): Promise<void> {
  const mode = env['POD_MODE'] ?? 'job';
  if (mode === 'job') return trainOnce();
  if (mode === 'serve') return takeJobs();
  throw new PodError('bad-config', `POD_MODE: expected job or serve, found ${mode}`);
}

/** Trains what `POD_ARGS` says. */
async function trainOnce(): Promise<void> {
  const options = readWords([...splitWords(env['POD_ARGS'] ?? ''), ...tpuWords()]);
  const { lobby, state } = await begin();
  const api = await serveApi(state, ...apiPlace());
  logger.info({ port: api.port }, 'api');
  endOnSignal(() => state.isReady(), state);
  let end: JobEnd;
  try {
    end = await runJob({
      ...{ options, folder, lobby, logger, watch: state, graceMsLimit: graceMsLimit() },
      shouldStop: () => state.isStopping,
    });
  } catch (error) {
    // Workers wait for the next master, if that may do better.
    await lobby.close(isFinal(error) ? 'dismiss' : 'leave');
    throw error;
  }
  await lobby.close('dismiss');
  api.close();
  if (end.kind === 'stopped') {
    logger.info({ step: end.step }, 'stopped');
    return;
  }
  logEvent(logger, { kind: 'finished', report: end.report });
  // Workers may still hang up: the summary is the last line.
  logger.level = 'silent';
  retire(folder);
}

/** Stays up, and runs one job after another. */
async function takeJobs(): Promise<void> {
  const { lobby, state, token } = await begin();
  const tpus = numberIn('TPUS', '8', 64);
  const runOne: RunJob = async ({ id, words, folder }, hooks) => {
    const jobLogger = loggerOf(id, hooks.log);
    const end = await runJob({
      ...{ folder, lobby, logger: jobLogger, watch: state, graceMsLimit: graceMsLimit() },
      options: readJobWords(words, folder, tpus),
      shouldStop: hooks.shouldStop,
    });
    if (end.kind === 'done') logEvent(jobLogger, { kind: 'finished', report: end.report });
    return end;
  };
  const jobs = new JobServer({
    ...{ folder, run: runOne, now: Date.now },
    check: (words) => void readJobWords(words, folder, tpus),
    log: (msg, fields) => logger.info(fields, msg),
  });
  jobs.start();
  const doorkeeper = new Doorkeeper(token, Date.now);
  const api = await serveApi(state, ...apiPlace(), { jobs, doorkeeper });
  logger.info({ port: api.port }, 'api');
  saySo('ready');
  endOnSignal(
    () => state.isReady(),
    state,
    () => void jobs.stop(),
  );
  await jobs.ended;
  api.close();
  // Whoever starts the next master finds its workers here.
  await lobby.close('leave');
}

/** What both do first. */
async function begin() {
  const { token, warning } = readToken(env);
  if (warning !== undefined) logger.warn(warning);
  const lobby: Lobby = await Lobby.open({
    token,
    host: env['POD_CONTROL_HOST'] ?? '0.0.0.0',
    port: numberIn('POD_CONTROL_PORT', '7070', 65535),
    log: (msg, fields) => logger.info(fields, msg),
  });
  const isServing = env['POD_MODE'] === 'serve';
  const state = new RunState(job, new Metrics(), {
    ready: (isReady) => saySo(isReady || isServing ? 'ready' : 'starting'),
    lost: (tpu) => replace(tpu, lobby.port),
  });
  return { lobby, state, token };
}

/**
 * The first signal lets the step that runs come to its end; `stop` is called then. A step that takes
 * too long is abandoned: it was not committed, and runs again when the run goes on.
 */
function endOnSignal(
  isRunning: () => boolean,
  state: RunState,
  stop: () => void = () => undefined,
): void {
  onEnd((signal) => {
    logger.info({ signal }, 'ending');
    saySo('ending');
    state.isStopping = true;
    if (!isRunning()) process.exit(0);
    setTimeout(() => {
      logger.warn('the step is abandoned');
      process.exit(0);
    }, graceMs).unref();
    stop();
  });
}

/** A job's log: its own, and the master's output beside it. */
function loggerOf(id: string, log: (line: Readonly<Record<string, unknown>>) => void): Logger {
  const write = (line: string): void => {
    output.write(line);
    log(JSON.parse(line));
  };
  return pino({ base: { job: id, role: 'master' } }, { write });
}

function saySo(state: ProcessStatus['state']): void {
  writeStatus(statusFile, state, (why) => logger.warn(why));
}

function tpuWords(): string[] {
  const tpus = env['TPUS'];
  return tpus === undefined || tpus === '' ? [] : ['--tpus', tpus];
}

function apiPlace(): [host: string, port: number] {
  return [env['POD_API_HOST'] ?? '127.0.0.1', numberIn('POD_API_PORT', '7080', 65535)];
}

function graceMsLimit(): number {
  return Math.max(1, numberIn('POD_GRACE_MS', '10000', 3_600_000));
}

/** On one machine nobody else starts a worker in the place of one that was lost. */
function replace(tpu: number, controlPort: number): void {
  const podFolder = env['POD_FOLDER'];
  if (podFolder === undefined) return;
  const workerEnvironment = { ...env, ...workerEnv(tpu, controlPort) };
  const { pid } = startProcess(podFolder, `tpu-${tpu}`, workerEnvironment);
  logger.info({ tpu, pid }, 'replacement-started');
}

function numberIn(name: string, missing: string, most: number): number {
  const text = env[name] ?? missing;
  const value = Number(text);
  if (/^\d+$/.test(text) && value <= most) return value;
  throw new PodError('bad-config', `${name}: expected a number from 0 to ${most}, found ${text}`);
}

/** Logs why, and gives the exit code of `pod train`. */
function refuse(error: unknown): number {
  if (error instanceof CommanderError) {
    logger.error({ code: 'bad-flag' }, `POD_ARGS: ${error.message.replace(/^error: /, '')}`);
    return 2;
  }
  const { code, exitCode, message, stack } = describeError(error);
  logger.error({ code, stack }, message);
  return exitCode;
}
