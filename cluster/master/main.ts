/**
 * The master: waits for a worker for each Cloud TPU, trains what `POD_ARGS` (the flags of
 * `pod train`) says, and exits as `pod train` does. Its last line of log is the summary.
 * docs/OPERATING.md lists its environment.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Command, CommanderError } from 'commander';
import { pino } from 'pino';
import { type TrainOptions, trainOptions } from '../../src/cli/options.ts';
import { addTrain } from '../../src/cli/train.ts';
import { openCheckpoints } from '../../src/experiment/checkpoint/checkpoints.ts';
import type { CheckpointPlan } from '../../src/experiment/checkpoint/keeper.ts';
import type { Report, StepCommitted, TrainEvent } from '../../src/experiment/event.ts';
import { train } from '../../src/experiment/train.ts';
import { PodError } from '../../src/numerics/error.ts';
import { logEvent } from '../../src/observe/log.ts';
import { splitWords } from '../image/words.ts';
import { readToken } from '../net/token.ts';
import { openProcessPod, type ProcessPod } from '../process/pod.ts';
import { startProcess, workerEnv } from '../process/spawn.ts';
import { onEnd } from '../worker/signals.ts';
import { statusPath, writeStatus } from '../worker/status-file.ts';
import { type ApiSource, serveApi } from './api.ts';
import { openCommitLog } from './commit-log.ts';
import { Metrics } from './metrics.ts';

const { env } = process;
const job = env['POD_JOB'] ?? 'pod';
const logger = pino({ base: { job, role: 'master' } });

/** A step that is under way when it is told to end may take this long, in ms. */
const graceMs = 8000;
const startMsLimit = 120_000;

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
  const options = readOptions();
  const { config, relaxedSimd } = options;
  const { token, warning } = readToken(env);
  if (warning !== undefined) logger.warn(warning);
  const commits = openCommitLog(join(env['POD_DATA_DIR'] ?? '/data', 'commits.jsonl'), config);
  const past = commits.past();
  logger.info({ epoch: past.epoch, step: past.history.at(-1)?.step ?? 0 }, 'commits-found');
  const controlPort = portIn('POD_CONTROL_PORT', '7070');
  const metrics = new Metrics();
  let pod: ProcessPod | undefined;
  let last: StepCommitted | undefined;
  let isStopping = false;
  const source: ApiSource = {
    isReady: () => pod !== undefined,
    status: () => ({ job, ...pod?.status(), last, linkBytes: pod?.linkBytes() }),
    metrics: async () => ({ type: metrics.contentType, text: await metrics.text(pod) }),
  };
  const api = await serveApi(
    source,
    env['POD_API_HOST'] ?? '127.0.0.1',
    portIn('POD_API_PORT', '7080'),
  );
  logger.info({ port: api.port }, 'api');
  onEnd((signal) => {
    logger.info({ signal }, 'ending');
    writeStatus(statusFile, 'ending');
    isStopping = true;
    if (pod === undefined) process.exit(0);
    setTimeout(() => {
      logger.warn('the step is abandoned');
      process.exit(0);
    }, graceMs).unref();
  });
  const checkpoints = await planOf(options);
  const events = train(config, {
    openPod: async (podOptions) => {
      pod = await openProcessPod({
        ...podOptions,
        ...{ config, relaxed: relaxedSimd, token, startMsLimit },
        host: env['POD_CONTROL_HOST'] ?? '0.0.0.0',
        port: controlPort,
        log: (msg, fields) => logger.info(fields, msg),
        onNote(note) {
          if (note.event === 'lost') metrics.lost();
          logger.warn(note, note.event);
          if (note.event === 'lost' || note.event === 'quarantined') replace(note.tpu, controlPort);
          podOptions.onNote?.(note);
        },
        onMembership: (epoch) => commits.beginEpoch(epoch),
      });
      return pod;
    },
    now: () => performance.now(),
    past,
    ...(checkpoints && { checkpoints }),
  });
  let report: Report | undefined;
  for await (const event of events) {
    const epoch = pod?.status().epoch;
    if (event.kind === 'step') {
      commits.commit(event, epoch ?? past.epoch + 1);
      last = event;
    }
    if (event.kind === 'ready') writeStatus(statusFile, 'ready');
    metrics.note(event);
    if (event.kind === 'finished') report = event.report;
    else if (event.kind !== 'note')
      logEvent(logger.child(epoch === undefined ? {} : { epoch }), event);
    if (isStopping) break;
  }
  api.close();
  commits.close();
  if (report === undefined) logger.info({ step: last?.step ?? 0 }, 'stopped');
  else deliver(report, options);
}

/** Reads `POD_ARGS` exactly as `pod train` reads its flags. */
function readOptions(): TrainOptions {
  const words = splitWords(env['POD_ARGS'] ?? '');
  const tpus = env['TPUS'];
  const program = new Command().exitOverride().configureOutput({ writeErr: () => {} });
  addTrain(program);
  let options: TrainOptions | undefined;
  const command = program.commands[0]?.copyInheritedSettings(program);
  command?.action((flags: Readonly<Record<string, unknown>>) => {
    options = trainOptions(flags);
  });
  const given = tpus === undefined || tpus === '' ? [] : ['--tpus', tpus];
  program.parse(['train', ...words, ...given], { from: 'user' });
  if (options === undefined)
    throw new PodError('bad-flag', 'POD_ARGS: expected flags of pod train');
  return options;
}

/** On one machine nobody else starts a worker in the place of one that was lost. */
function replace(tpu: number | null, controlPort: number): void {
  const folder = env['POD_FOLDER'];
  if (folder === undefined || tpu === null) return;
  const { pid } = startProcess(folder, `tpu-${tpu}`, { ...env, ...workerEnv(tpu, controlPort) });
  logger.info({ tpu, pid }, 'replacement-started');
}

async function planOf({ checkpoint }: TrainOptions): Promise<CheckpointPlan | undefined> {
  if (checkpoint === undefined) return undefined;
  const { directory, every, keep, resume } = checkpoint;
  return { checkpoints: await openCheckpoints(directory, { keep }), every, resume };
}

function deliver(report: Report, { report: file }: TrainOptions): void {
  if (file !== undefined) {
    try {
      writeFileSync(file, `${JSON.stringify(report, undefined, 2)}\n`);
    } catch (cause) {
      const why = (cause as Error).message;
      throw new PodError('io', `--report ${file}: could not be written: ${why}`, cause);
    }
  }
  const finished: TrainEvent = { kind: 'finished', report };
  logEvent(logger, finished);
  // Workers hang up now, one after another: the summary is the last line.
  logger.level = 'silent';
}

function portIn(name: string, missing: string): number {
  const text = env[name] ?? missing;
  const port = Number(text);
  if (/^\d+$/.test(text) && port < 65536) return port;
  throw new PodError('bad-config', `${name}: expected a port, found ${text}`);
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
