/**
 * A worker: the process of one Cloud TPU. `POD_MASTER` (host:port) says where its master is,
 * `POD_TOKEN_FILE` holds the join token, `POD_TENSOR_PORT` is where its neighbours connect, and
 * rank.ts says which Cloud TPU it is. Exits 0 when the master says that all is done.
 */
import { hostname } from 'node:os';
import { pino } from 'pino';
import { PodError } from '../../src/numerics/error.ts';
import { type ControlChannel, connectControl } from '../net/control.ts';
import { unnumbered } from '../net/handshake.ts';
import { readToken } from '../net/token.ts';
import { checkToNode, type FromNode, type ToNode } from '../process/messages.ts';
import { Node } from '../process/node.ts';
import { localAddress } from './address.ts';
import { rankOf } from './rank.ts';
import { onEnd } from './signals.ts';
import { statusPath, writeStatus } from './status-file.ts';

const { env } = process;
const logger = pino({ base: { job: env['POD_JOB'] ?? 'pod', role: 'worker' } });
const statusFile = statusPath(env);

/** How long it looks for a master, and how often it pings it, in ms. */
const joinMsLimit = 180_000;
const heartbeatMs = 10_000;
const backoff = { firstMs: 50, mostMs: 1000 };

try {
  writeStatus(statusFile, 'starting');
  await serve();
} catch (error) {
  leave(error);
}

async function serve(): Promise<void> {
  const { host, port } = placeOf(env['POD_MASTER'] ?? '127.0.0.1:7070');
  const tensorPort = portOf('POD_TENSOR_PORT', env['POD_TENSOR_PORT'] ?? '7071');
  const { token, warning } = readToken(env);
  if (warning !== undefined) logger.warn(warning);
  const from = rankOf(env, hostname()) ?? unnumbered;
  let node: Node | undefined;
  const late = setTimeout(() => {
    leave(new PodError('worker-silent', `no master at ${host}:${port} for ${joinMsLimit} ms`));
  }, joinMsLimit);
  const welcome = async (
    message: ToNode & { kind: 'welcome' },
    channel: ControlChannel<FromNode>,
  ): Promise<void> => {
    const { tpu } = message;
    clearTimeout(late);
    const log = logger.child({ tpu });
    log.info('welcome');
    const address = env['POD_HOST'] ?? (await localAddress(host, port));
    node = new Node(message, {
      ...{ token, bind: bindOf(address), host: address, port: tensorPort },
      send: (it) => channel.send(it),
      ended: leave,
      log(msg, fields) {
        if (msg === 'ready') writeStatus(statusFile, 'ready');
        log.info(fields, msg);
      },
    });
    await node.start();
  };
  const client = connectControl<ToNode, FromNode>({
    ...{ token, url: `ws://${host}:${port}`, heartbeatMs, backoff, check: checkToNode },
    hello: { role: 'worker', from, to: unnumbered, epoch: 0 },
    random: Math.random,
    joined: (channel) => ({
      message(message) {
        if (message.kind === 'welcome' && node === undefined)
          welcome(message, channel).catch(leave);
        else node?.receive(message);
      },
      closed(refusal) {
        client.close();
        const why = refusal?.text ?? 'its connection was closed';
        const gone = new PodError('worker-exited', `the master is gone: ${why}`);
        if (node === undefined) leave(gone);
        else void node.end(gone);
      },
    }),
    retrying: (refusal, inMs) => {
      logger.debug({ cause: refusal?.text, inMs }, 'retrying');
    },
    failed: leave,
  });
  onEnd((signal) => {
    logger.info({ signal }, 'ending');
    writeStatus(statusFile, 'ending');
    client.close();
    if (node === undefined) leave(undefined);
    else void node.end();
  });
}

/** The last thing that is done: nothing is left that matters. */
function leave(error: unknown): void {
  if (error === undefined) {
    logger.info('done');
    process.exit(0);
  }
  const known = error instanceof PodError ? error : undefined;
  logger.error({ code: known?.code }, error instanceof Error ? error.message : String(error));
  process.exit(known?.exitCode ?? 1);
}

/** Others on this machine only need loopback. */
function bindOf(address: string): string {
  return address === '127.0.0.1' ? address : '0.0.0.0';
}

function placeOf(text: string): { readonly host: string; readonly port: number } {
  const colon = text.lastIndexOf(':');
  if (colon < 1) throw new PodError('bad-config', `POD_MASTER: expected host:port, found ${text}`);
  return { host: text.slice(0, colon), port: portOf('POD_MASTER', text.slice(colon + 1)) };
}

function portOf(name: string, text: string): number {
  const port = Number(text);
  if (/^\d+$/.test(text) && port < 65536) return port;
  throw new PodError('bad-config', `${name}: expected a port, found ${text}`);
}
