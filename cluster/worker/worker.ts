/**
 * A worker: the process of a Cloud TPU. `POD_MASTER` (host:port) says where its master is,
 * `POD_TOKEN_FILE` holds the join token, `POD_TENSOR_PORT` is where its neighbours connect, and
 * rank.ts says which Cloud TPU it is. It outlives its master: it waits for another. Exits 0 when the
 * master says that all is done.
 */
import { existsSync } from 'node:fs';
import { hostname, networkInterfaces } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { pino } from 'pino';
import { outliveFileLimit } from '../../src/files/write.ts';
import { oneLine } from '../../src/numerics/quote.ts';
import { exitCodeOf, onEnd } from '../host/ending.ts';
import { wholeIn, wordIn } from '../host/environment.ts';
import { parseHost, parsePlace } from '../net/address.ts';
import { readToken, type Token, tokenPath } from '../net/token.ts';
import { isRunOver } from '../process/run-over.ts';
import { collectLeftovers } from './collector.ts';
import { describeError } from './last-words.ts';
import { LogOutput, logFormats } from './log-output.ts';
import { rankOf } from './rank.ts';
import { Session, type SessionOptions } from './session.ts';
import { type ProcessStatus, statusPath, writeStatus } from './status-file.ts';

const { env } = process;
const logger = pino(
  { base: { job: oneLine(env['POD_JOB'] ?? 'pod', 200), role: 'worker' } },
  LogOutput.of(env),
);
const statusFile = statusPath(env);
/** How long the token may be missing, and how often that is said, in ms: a master may make it. */
const tokenMsLimit = 180_000;
const sayMs = 5000;

/** Exit code of an end without an error: 0 if the master said that all is over. */
let exitCode = 0;

outliveFileLimit();
process.on('uncaughtException', leave);
saySo('starting');
// There when node was started with --expose-gc.
collectLeftovers(globalThis.gc);
serve().catch(leave);

async function serve(): Promise<void> {
  wordIn(env, 'POD_LOG_FORMAT', logFormats);
  const { host, port } = parsePlace('POD_MASTER', env['POD_MASTER'] ?? '127.0.0.1:7070');
  const tensorPort = wholeIn(env, 'POD_TENSOR_PORT', { min: 0, max: 65_535 }) ?? 7071;
  const { POD_HOST } = env;
  const address = POD_HOST === undefined ? undefined : parseHost('POD_HOST', POD_HOST);
  const rank = rankOf(env, { hostname: hostname(), addresses: ownAddresses() });
  const token = await awaitToken();
  const common = {
    ...{ host, port, token, address, isRunOver: () => isRunOver(env) },
    log: (msg: string, fields: object) => logger.info(fields, msg),
  };
  /** By the Cloud TPU that each was asked to host. */
  const hosted = new Map<number, Session>();
  const asked = (tpu: number): void => {
    logger.info({ tpu }, 'hosting');
    if (!hosted.has(tpu)) hosted.set(tpu, new Session(hostedOptions(tpu)));
  };
  const hostedOptions = (tpu: number): SessionOptions => ({
    ...common,
    // The port that is known belongs to its own.
    ...{ rank: tpu, isHosted: true, tensorPort: 0, asked },
    ready: () => undefined,
    over(error) {
      hosted.delete(tpu);
      if (error !== undefined) leave(error);
    },
  });
  const own = new Session({
    ...common,
    ...{ rank, isHosted: false, tensorPort, asked },
    ready: (isReady) => saySo(isReady ? 'ready' : 'starting'),
    over: leave,
  });
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

/** The token, once it is there: in containers the master makes it. */
async function awaitToken(): Promise<Token> {
  const path = tokenPath(env);
  const startMs = performance.now();
  for (let saidMs = 0; !existsSync(path); ) {
    const waitedMs = performance.now() - startMs;
    if (waitedMs > tokenMsLimit) break;
    if (waitedMs - saidMs >= sayMs) {
      saidMs = waitedMs;
      logger.info({ path, waitedMs: Math.round(waitedMs), tokenMsLimit }, 'awaits-token');
    }
    await sleep(100);
  }
  const { token, warning } = readToken(env);
  if (warning !== undefined) logger.warn(warning);
  return token;
}

function saySo(state: ProcessStatus['state']): void {
  writeStatus(statusFile, state, (why) => logger.warn(why));
}

/** Ends the process: nothing is left that matters. */
function leave(error: unknown): void {
  if (error === undefined) {
    logger.info('done');
    process.exit(exitCode);
  }
  const described = describeError(error);
  logger.error({ code: described.code, stack: described.stack }, described.message);
  process.exit(described.exitCode);
}
