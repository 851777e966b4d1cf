/**
 * The worker program: the process of a Cloud TPU. Its settings are environment variables:
 * `POD_MASTER` (host:port of the master), `POD_TOKEN_FILE` (file with the join token),
 * `POD_TENSOR_PORT` (port to which neighbours connect), and those that rank.ts reads. When a master
 * ends, the worker waits for the next master. When a master says that the run is over, the worker
 * exits 0.
 */
import { existsSync } from 'node:fs';
import { hostname, networkInterfaces } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { pino } from 'pino';
import { outliveFileLimit } from '../../src/files/write.ts';
import { oneLine } from '../../src/numerics/quote.ts';
import { logLevels } from '../../src/observe/log.ts';
import { exitCodeOf, onEnd } from '../host/ending.ts';
import { readInteger, readWord } from '../host/environment.ts';
import { limits } from '../limits.ts';
import { parseHost, parsePlace } from '../net/address.ts';
import { protocolVersion } from '../net/frame.ts';
import { knock } from '../net/knock.ts';
import { readToken, type Token, tokenPath } from '../net/token.ts';
import { isRunOver } from '../process/run-over.ts';
import { collectLeftovers } from './collector.ts';
import { joinFaultsOf } from './join-faults.ts';
import { describeError } from './last-words.ts';
import { LogOutput, levelOf, logFormats } from './log-output.ts';
import { rankOf } from './rank.ts';
import { masterUrl, Session, type SessionOptions } from './session.ts';
import { type ProcessStatus, statusPath, writeStatus } from './status-file.ts';

const { env } = process;
const logger = pino(
  {
    base: { job: oneLine(env['POD_JOB'] ?? 'pod', 200), role: 'worker' },
    level: levelOf(env),
  },
  LogOutput.of(env),
);
const statusFile = statusPath(env);

/**
 * Exit code if the worker ends without an error: 0 after the run is over, 130 or 143 if a signal
 * has ended the worker.
 */
let exitCode = 0;

outliveFileLimit();
process.on('uncaughtException', leave);
saySo('starting');
// `gc` exists if node was started with --expose-gc.
collectLeftovers(globalThis.gc);
serve().catch(leave);

async function serve(): Promise<void> {
  readWord(env, 'POD_LOG_FORMAT', logFormats);
  readWord(env, 'POD_LOG_LEVEL', logLevels);
  const { host, port } = parsePlace('POD_MASTER', env['POD_MASTER'] ?? '127.0.0.1:7070');
  const tensorPort = readInteger(env, 'POD_TENSOR_PORT', { min: 0, max: 65_535 }) ?? 7071;
  const { POD_HOST } = env;
  const address = POD_HOST === undefined ? undefined : parseHost('POD_HOST', POD_HOST);
  const rank = rankOf(env, { hostname: hostname(), addresses: ownAddresses() });
  const token = await awaitToken();
  const common = {
    ...{ host, port, token, address, isRunOver: () => isRunOver(env) },
    log: (msg: string, fields: object) => logger.info(fields, msg),
  };
  /**
   * hosted: one session with the master for each lost Cloud TPU that this process emulates in
   * addition to its own. The key is the number of the lost Cloud TPU.
   */
  const hosted = new Map<number, Session>();
  const asked = (tpu: number): void => {
    logger.info({ tpu }, 'hosting');
    if (!hosted.has(tpu)) hosted.set(tpu, new Session(hostedOptions(tpu)));
  };
  /** Options of a second session for the process's own Cloud TPU, which a fault plan asks for. */
  const twinOptions = (tpu: number): SessionOptions => ({ ...hostedOptions(tpu), isHosted: false });
  const hostedOptions = (tpu: number): SessionOptions => ({
    ...common,
    // The process's own Cloud TPU uses the port `POD_TENSOR_PORT`. So the session for a lost Cloud
    // TPU lets the system choose a free port (`tensorPort` 0).
    ...{ rank: tpu, isHosted: true, tensorPort: 0, asked },
    ready: () => undefined,
    over(error) {
      hosted.delete(tpu);
      if (error !== undefined) leave(error);
    },
  });
  const faults = joinFaultsOf(rank, env);
  if (faults.lateMs > 0) await sleep(faults.lateMs);
  if (faults.hasWrongVersion) await knock(masterUrl(common), protocolVersion + 1);
  const own = new Session({
    ...common,
    ...{ rank, isHosted: false, tensorPort, asked },
    ready: (isReady) => saySo(isReady ? 'ready' : 'starting'),
    over: leave,
  });
  if (faults.isTwice && rank !== undefined) hosted.set(rank, new Session(twinOptions(rank)));
  onEnd((signal) => {
    logger.info({ signal }, 'ending');
    saySo('ending');
    exitCode = exitCodeOf(signal);
    Promise.all([...hosted.values(), own].map((session) => session.end())).then(
      () => leave(undefined),
      leave,
    );
  });
}

function ownAddresses(): string[] {
  return Object.values(networkInterfaces()).flatMap(
    (it) => it?.map(({ address }) => address) ?? [],
  );
}

/**
 * Waits for the token file and reads it. In containers the master makes this file. If the file is
 * still missing after `limits.searchMs` ms, throws the error of `readToken`.
 */
async function awaitToken(): Promise<Token> {
  const path = tokenPath(env);
  const startMs = performance.now();
  for (let saidMs = 0; !existsSync(path); ) {
    const waitedMs = performance.now() - startMs;
    if (waitedMs > limits.searchMs) break;
    if (waitedMs - saidMs >= limits.searchLogMs) {
      saidMs = waitedMs;
      logger.info(
        { path, waitedMs: Math.round(waitedMs), waitMsLimit: limits.searchMs },
        'awaits-token',
      );
    }
    await sleep(100);
  }
  const { token, warning } = readToken(env);
  if (warning !== undefined) logger.warn(warning);
  return token;
}

/** Writes the status file. A failure is logged and has no other effect. */
function saySo(state: ProcessStatus['state']): void {
  writeStatus(statusFile, state, (why) => logger.warn(why));
}

/**
 * Ends the process at once. If `error` is undefined, the process ends with `exitCode`. Otherwise
 * `error` is logged and determines the exit code.
 */
function leave(error: unknown): void {
  if (error === undefined) {
    logger.info('done');
    process.exit(exitCode);
  }
  const described = describeError(error);
  logger.error({ code: described.code, stack: described.stack }, described.message);
  process.exit(described.exitCode);
}
