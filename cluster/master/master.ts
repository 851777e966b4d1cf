/**
 * The master program. It waits for a worker for each Cloud TPU, trains as `POD_ARGS` (flags of
 * `pod train`) says, and exits with the exit code of `pod train`. The last line of its log is the
 * summary. With `POD_MODE=serve` the master stays up and takes jobs instead. docs/OPERATING.md
 * lists the environment variables of the master.
 */
import { setFlagsFromString } from 'node:v8';
import { type Logger, pino } from 'pino';
import { cloudTpus } from '../../src/experiment/config.ts';
import { outliveFileLimit } from '../../src/files/write.ts';
import { errorCodes } from '../../src/numerics/error.ts';
import { oneLine } from '../../src/numerics/quote.ts';
import { logLevels } from '../../src/observe/log.ts';
import type { PodEvent } from '../../src/run/event.ts';
import { RunStream } from '../../src/run/stream.ts';
import { endsPod } from '../final.ts';
import { type EndSignal, exitCodeOf, onEnd } from '../host/ending.ts';
import { readInteger, readText, readWord } from '../host/environment.ts';
import { makeToken } from '../image/token-file.ts';
import { limits } from '../limits.ts';
import { parseHost } from '../net/address.ts';
import { readToken, type Token, tokenPath } from '../net/token.ts';
import { Lobby } from '../process/lobby.ts';
import { LocalWorkers } from '../process/local-workers.ts';
import { noteRunOver } from '../process/run-over.ts';
import { describeError } from '../worker/last-words.ts';
import { isShown, LogOutput, levelOf, logFormats } from '../worker/log-output.ts';
import { type ProcessStatus, statusPath, writeStatus } from '../worker/status-file.ts';
import { serveApi } from './api.ts';
import { Doorkeeper } from './auth.ts';
import { runJob } from './job.ts';
import { logSink } from './log-sink.ts';
import type { JobEnd } from './logged-run.ts';
import { Metrics } from './metrics.ts';
import { retire, retireEnded } from './retire.ts';
import { lossSink, RunOutputs } from './run-outputs.ts';
import { RunState, type RunStateEvents } from './run-state.ts';
import { JobServer, type RunJob } from './serve.ts';
import { readJobWords, readMaster, readServing, submittedWords } from './words.ts';

const { env } = process;
const job = oneLine(env['POD_JOB'] ?? 'pod', 200);
const output = LogOutput.of(env);
const level = levelOf(env);
const logger = pino({ base: { job, role: 'master' }, level }, output);
const statusFile = statusPath(env);
const folder = env['POD_DATA_DIR'] ?? '/data';
/**
 * Stream of the events of the run, while the run that `POD_ARGS` describes is in progress;
 * undefined otherwise.
 */
let stream: RunStream | undefined;
const portRange = { min: 0, max: 65_535 };

/**
 * A master that ends with an error dismisses its workers first. For workers that have not connected
 * yet, the master waits at most this time, in ms.
 */
const startingMs = 5000;
/**
 * Time, in ms, for which workers in containers keep running after the master has ended. Some
 * container engines end the whole pod as soon as one container ends, and take the exit code of that
 * container. So the container of the master must end first.
 */
const containerLingerMs = 1500;

outliveFileLimit();
process.on('uncaughtException', (error) => process.exit(refuse(error)));
// With this flag V8 collects garbage as soon as the heap has grown by half. Without the flag, the
// heap of a master with many connections grew to four times its size before V8 collected garbage.
setFlagsFromString('--heap-growing-percent=50');
saySo('starting');
run().then(
  (exitCode) => process.exit(exitCode),
  (error) => process.exit(refuse(error)),
);

/**
 * Waits for workers, then trains one run or takes jobs, as `POD_MODE` says. Returns the exit code.
 */
async function run(): Promise<number> {
  const { token, lobby } = await openLobby();
  try {
    readWord(env, 'POD_LOG_FORMAT', logFormats);
    readWord(env, 'POD_LOG_LEVEL', logLevels);
    readText(env, 'POD_DATA_DIR');
    const mode = readWord(env, 'POD_MODE', ['job', 'serve']) ?? 'job';
    return mode === 'job' ? await trainOnce(lobby) : await takeJobs(lobby, token);
  } catch (error) {
    // If a next master would fail in the same way, the workers are told to end. Otherwise the
    // workers keep running and wait for a next master.
    if (endsPod(error)) await sendHome(lobby, error);
    else await lobby.close();
    throw error;
  }
}

/**
 * Opens the lobby, to which workers connect. The lobby opens before the settings are checked. So
 * even a master with wrong settings can tell its workers to end.
 */
async function openLobby(): Promise<{ readonly token: Token; readonly lobby: Lobby }> {
  if (env['POD_MAKES_TOKEN'] === 'true' && makeToken(tokenPath(env))) logger.info('token-made');
  const { token, warning } = readToken(env);
  if (warning !== undefined) logger.warn(warning);
  const lobby = await Lobby.open({
    token,
    host: parseHost('POD_CONTROL_HOST', env['POD_CONTROL_HOST'] ?? '0.0.0.0'),
    port: readInteger(env, 'POD_CONTROL_PORT', portRange) ?? 7070,
    log: tellPod,
  });
  return { token, lobby };
}

/** Trains the run that `POD_ARGS` describes. Returns the exit code. */
async function trainOnce(lobby: Lobby): Promise<number> {
  const options = readMaster(env);
  const graceMsLimit = graceMs();
  const outputs = new RunOutputs(options, (why) => logger.warn(why));
  // `POD_ATTEMPT` is 0 if the container has just started, and larger if a master has crashed in
  // this container and was restarted. A container that has just started begins a new run. If the
  // folder still has the commit log of a run that has ended, the log is moved away.
  if (env['POD_ATTEMPT'] === '0') retireEnded(folder);
  const { state, metrics, workers } = begin(lobby, cloudTpus(options.config));
  const api = await serveApi(state, ...apiPlace());
  logger.info({ port: api.port }, 'api');
  const ending = endOnSignal(state);
  outputs.begin();
  const counted = await metrics.begin(job);
  stream = new RunStream([outputs, lossSink(outputs, refuse), logSink(logger), state, counted]);
  workers?.startAll();
  let end: JobEnd;
  try {
    end = await runJob({
      ...{ options, folder, lobby, stream, watch: state, graceMsLimit },
      ...{ isWatched: workers !== undefined, shouldStop: () => state.isStopping },
      known: (key, continues) => outputs.record(key, continues),
    });
  } finally {
    workers?.close();
    stream.end();
    stream = undefined;
  }
  if (end.kind === 'stopped') {
    await lobby.close();
    return ending.exitCode;
  }
  ending.isDone = true;
  // The summary must be the last line of the log. The logger is silenced here, because the workers
  // that disconnect later would add lines.
  logger.level = 'silent';
  retire(folder);
  await sendHome(lobby, undefined);
  return outputs.lost !== undefined ? errorCodes.io : 0;
}

/**
 * Takes jobs and runs them one at a time, until a signal ends the master. Returns the exit code.
 */
async function takeJobs(lobby: Lobby, token: Token): Promise<number> {
  const topology = readServing(env);
  const graceMsLimit = graceMs();
  const { state, metrics, workers } = begin(lobby, cloudTpus({ topology }));
  const runOne: RunJob = async ({ id, words, folder }, hooks) => {
    workers?.startAll();
    state.begin(id);
    const counted = await metrics.begin(id);
    return await runJob({
      ...{ folder, lobby, watch: state, graceMsLimit },
      options: readJobWords(words, folder, topology),
      stream: new RunStream([logSink(loggerOf(id, hooks.log)), state, counted]),
      ...{ isWatched: workers !== undefined, shouldStop: hooks.shouldStop },
    });
  };
  const jobs = new JobServer({
    ...{ folder, run: runOne, now: Date.now },
    check: (words) => submittedWords(words, topology),
    log: (msg, fields) => logger.info(fields, msg),
    ended: (state) => countEnd(state),
  });
  const countEnd = metrics.addQueue(() => jobs.list());
  workers?.startAll();
  jobs.start();
  const doorkeeper = new Doorkeeper(token, Date.now);
  const api = await serveApi(state, ...apiPlace(), { jobs, doorkeeper });
  logger.info({ port: api.port }, 'api');
  saySo('ready');
  const ending = endOnSignal(state, () => void jobs.stop());
  await jobs.ended;
  api.close();
  workers?.close();
  // The workers are not dismissed: they wait for the next master.
  await lobby.close();
  return ending.exitCode;
}

interface Begun {
  readonly state: RunState;
  readonly metrics: Metrics;
  /** The worker processes on this machine; undefined if this master does not start its workers. */
  readonly workers: LocalWorkers | undefined;
}

/** Makes the state of the run and, if `POD_FOLDER` is set, the object that starts local workers. */
function begin(lobby: Lobby, tpus: number): Begun {
  const isServing = env['POD_MODE'] === 'serve';
  const events: RunStateEvents = {
    ready: (isReady) => saySo(isReady || isServing ? 'ready' : 'starting'),
    lost: (tpu) => workers?.replace(tpu),
  };
  const metrics = new Metrics();
  const state = new RunState(job, metrics, events, isServing);
  const podFolder = env['POD_FOLDER'];
  const workers =
    podFolder === undefined
      ? undefined
      : new LocalWorkers({
          ...{ folder: podFolder, tpus, controlPort: lobby.port, env },
          died: (tpu, death) => state.died(tpu, death),
          log: tellPod,
        });
  return { state, metrics, workers };
}

/**
 * Ends the pod: dismisses all workers in the lobby. After an error the master also waits, up to
 * {@link startingMs}, for workers in containers that are still starting.
 */
async function sendHome(lobby: Lobby, error: unknown): Promise<void> {
  const isLocal = env['POD_FOLDER'] !== undefined;
  const tpus = Number(env['TPUS'] ?? '8');
  await lobby.dismiss({
    expected: error === undefined || isLocal || !Number.isSafeInteger(tpus) ? 0 : tpus,
    withinMs: startingMs,
    lingerMs: isLocal ? 0 : containerLingerMs,
  });
  noteRunOver(env);
}

interface Ending {
  /** Exit code of the master after a signal; 0 before any signal. */
  exitCode: number;
  /** True once the run is complete. Signals are ignored from then on. */
  isDone: boolean;
}

/**
 * Ends the master at the first signal that asks it to end. If no step can run at the time of the
 * signal, the process exits at once. Otherwise calls `stop` and lets the running step finish. If
 * the step takes longer than {@link limits}.lastStepMs, the process exits without a commit of the
 * step. The next master then runs the step again.
 */
function endOnSignal(state: RunState, stop: () => void = () => undefined): Ending {
  const ending: Ending = { exitCode: 0, isDone: false };
  onEnd((signal: EndSignal) => {
    if (ending.isDone) return;
    logger.info({ signal }, 'ending');
    saySo('ending');
    ending.exitCode = exitCodeOf(signal);
    state.isStopping = true;
    if (!state.canStep) process.exit(ending.exitCode);
    setTimeout(() => {
      logger.warn('the step is abandoned');
      process.exit(ending.exitCode);
    }, limits.lastStepMs).unref();
    stop();
  });
  return ending;
}

/**
 * Returns the logger of a job. It writes each line to the log of the job. If `POD_LOG_LEVEL` allows
 * the line, it also writes the line to the output of the master. The log of a job always has the
 * lines of level `info`, because `pod submit --wait` and `pod logs` need them.
 */
function loggerOf(id: string, log: (line: Readonly<Record<string, unknown>>) => void): Logger {
  const write = (text: string): void => {
    const line = JSON.parse(text);
    if (isShown(line, level)) output.write(text);
    log(line);
  };
  const base = { job: id, role: 'master' };
  return pino({ base, level: level === 'debug' ? 'debug' : 'info' }, { write });
}

/**
 * Tells an event of the lobby, or of the local workers. If the run that `POD_ARGS` describes is in
 * progress, the event goes to the stream of that run. Otherwise the event goes only to the log.
 */
function tellPod(msg: string, fields: PodEvent['fields']): void {
  if (stream === undefined) logger.info(fields, msg);
  else stream.tell({ kind: 'pod', level: 'info', msg, fields });
}

function saySo(state: ProcessStatus['state']): void {
  writeStatus(statusFile, state, (why) => logger.warn(why));
}

function apiPlace(): [host: string, port: number] {
  const host = parseHost('POD_API_HOST', env['POD_API_HOST'] ?? '127.0.0.1');
  return [host, readInteger(env, 'POD_API_PORT', portRange) ?? 7080];
}

function graceMs(): number {
  return Math.max(1, readInteger(env, 'POD_GRACE_MS', { min: 0, max: 3_600_000 }) ?? 10_000);
}

/** Logs an error. Returns the exit code that `pod train` has for that error. */
function refuse(error: unknown): number {
  const { code, exitCode, message, stack } = describeError(error);
  logger.error({ code, stack }, message);
  return exitCode;
}
