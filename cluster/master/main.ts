/**
 * The master: waits for a worker for each Cloud TPU, trains what `POD_ARGS` (the flags of
 * `pod train`) says, and exits as `pod train` does. Its last line of log is the summary.
 * docs/OPERATING.md lists its environment.
 */
import { CommanderError } from 'commander';
import { pino } from 'pino';
import { PodError } from '../../src/numerics/error.ts';
import { logEvent } from '../../src/observe/log.ts';
import { splitWords } from '../image/words.ts';
import { readToken } from '../net/token.ts';
import { Lobby } from '../process/lobby.ts';
import { startProcess, workerEnv } from '../process/spawn.ts';
import { onEnd } from '../worker/signals.ts';
import { statusPath, writeStatus } from '../worker/status-file.ts';
import { serveApi } from './api.ts';
import { isFinal, type JobEnd, runJob } from './job.ts';
import { Metrics } from './metrics.ts';
import { retire } from './retire.ts';
import { RunState } from './run-state.ts';
import { readWords } from './words.ts';

const { env } = process;
const job = env['POD_JOB'] ?? 'pod';
const logger = pino({ base: { job, role: 'master' } });

/** A step that is under way when it is told to end may take this long, in ms. */
const graceMs = 8000;

try {
  await run();
  process.exit(0);
} catch (error) {
  process.exit(refuse(error));
}

async function run(): Promise<void> {
  if ((env['POD_MODE'] ?? 'job') !== 'job') {
    throw new PodError('bad-config', `POD_MODE: expected job, found ${env['POD_MODE']}`);
  }
  const statusFile = statusPath(env);
  writeStatus(statusFile, 'starting');
  const options = readWords(wordsOfEnv());
  const { token, warning } = readToken(env);
  if (warning !== undefined) logger.warn(warning);
  const lobby = await Lobby.open({
    token,
    host: env['POD_CONTROL_HOST'] ?? '0.0.0.0',
    port: numberIn('POD_CONTROL_PORT', '7070', 65535),
    log: (msg, fields) => logger.info(fields, msg),
  });
  const metrics = new Metrics();
  const state = new RunState(job, metrics, {
    ready: (isReady) => writeStatus(statusFile, isReady ? 'ready' : 'starting'),
    lost: (tpu) => replace(tpu, lobby.port),
  });
  const api = await serveApi(
    state,
    env['POD_API_HOST'] ?? '127.0.0.1',
    numberIn('POD_API_PORT', '7080', 65535),
  );
  logger.info({ port: api.port }, 'api');
  onEnd((signal) => {
    logger.info({ signal }, 'ending');
    writeStatus(statusFile, 'ending');
    state.isStopping = true;
    if (!state.isReady()) process.exit(0);
    setTimeout(() => {
      logger.warn('the step is abandoned');
      process.exit(0);
    }, graceMs).unref();
  });
  const folder = env['POD_DATA_DIR'] ?? '/data';
  let end: JobEnd;
  try {
    end = await runJob({
      ...{ options, folder, lobby, logger, watch: state },
      graceMsLimit: numberIn('POD_GRACE_MS', '10000', 3_600_000),
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

/** The flags in `POD_ARGS`, and the number of Cloud TPUs in `TPUS`. */
function wordsOfEnv(): string[] {
  const tpus = env['TPUS'];
  const given = tpus === undefined || tpus === '' ? [] : ['--tpus', tpus];
  return [...splitWords(env['POD_ARGS'] ?? ''), ...given];
}

/** On one machine nobody else starts a worker in the place of one that was lost. */
function replace(tpu: number, controlPort: number): void {
  const folder = env['POD_FOLDER'];
  if (folder === undefined) return;
  const { pid } = startProcess(folder, `tpu-${tpu}`, { ...env, ...workerEnv(tpu, controlPort) });
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
  if (error instanceof PodError) {
    logger.error({ code: error.code }, error.message);
    return error.exitCode;
  }
  logger.error({ stack: error instanceof Error ? error.stack : undefined }, String(error));
  return 1;
}
