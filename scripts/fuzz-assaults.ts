import { sign } from '../cluster/master/auth.ts';
import { decodeMessage, encodeMessage, messageBytesMax } from '../cluster/net/codec.ts';
import { controlPath } from '../cluster/net/control.ts';
import { emptyHeader, encodeFrame, frameKinds, isFrame } from '../cluster/net/frame.ts';
import { channels, type Hello, roles, unnumbered } from '../cluster/net/handshake.ts';
import { tensorPath } from '../cluster/net/tensor-socket.ts';
import { Token } from '../cluster/net/token.ts';
import { maskedFrame } from '../cluster/net/ws-stream.ts';
import { checkFromNode } from '../cluster/process/messages.ts';
import type { Random } from '../src/numerics/generator.ts';
import { below, broken, genuine, noise, pick } from './fuzz-inputs.ts';
import {
  beChallenged,
  beWelcome,
  type Carried,
  type End,
  Line,
  lastWords,
  opcodes,
  openStream,
  openWebSocket,
  upgradeRequest,
} from './fuzz-line.ts';

/**
 * A pod of processes that is attacked: the ports and sockets on which it listens, the token that
 * its processes share as a secret, and its generation (the number of the membership). An insider is
 * an attacker that knows the token.
 */
export interface Attacked {
  readonly token: Token;
  readonly control: End;
  readonly api: End;
  /**
   * One entry for each Cloud TPU, by number: the TCP port and the unix socket on which its worker
   * listens for tensors.
   */
  readonly workers: readonly { readonly ws: End; readonly unix: End }[];
  readonly generation: number;
}

/**
 * Outcomes of the inputs sent over one connection. An input has an outcome only if the attacked
 * process has answered or processed it, or has hung up because of it.
 */
export type Outcomes = readonly string[];

/** A kind of attack. `run` opens one connection and sends a few hostile inputs over it. */
export interface Assault {
  readonly name: string;
  /**
   * Relative frequency of this assault. An assault of weight 2 runs twice as often as an assault of
   * weight 1.
   */
  readonly weight: number;
  readonly run: (attacked: Attacked, random: Random) => Promise<Outcomes>;
}

/**
 * Longest time, in ms, that the attacker waits for the attacked process to hang up. If the process
 * is still waiting for more bytes then, the outcome is `waits`.
 */
const hangUpMs = 6000;

export const assaults: readonly Assault[] = [
  { name: 'control: HTTP', weight: 30, run: ({ control }, it) => throwHttp(control, it) },
  { name: 'control: WebSocket', weight: 15, run: (it, random) => throwWebSocket(it, random) },
  { name: 'control: handshake', weight: 40, run: throwControlHandshake },
  { name: 'control: insider', weight: 10, run: throwControlInsider },
  { name: 'control: messages', weight: 14, run: throwMessages },
  { name: 'API', weight: 14, run: throwRequests },
  { name: 'tensor (unix): handshake', weight: 120, run: throwUnixHandshake },
  { name: 'tensor (ws): handshake', weight: 20, run: throwTensorHandshake },
  { name: 'tensor: insider', weight: 20, run: throwTensorInsider },
  { name: 'state: insider', weight: 10, run: throwStateInsider },
];

// ------------------------------------------------------------------------------------------- HTTP

async function throwHttp(end: End, random: Random): Promise<Outcomes> {
  const line = new Line(end);
  if (!(await line.until(() => line.isOpen))) return [];
  line.write(httpGarbage(random));
  line.finish();
  await line.untilEnded(hangUpMs);
  const [status] = statusesIn(line.heard);
  const outcome = status ?? (line.isEnded ? 'hung up' : 'waits');
  line.close();
  return [outcome];
}

function httpGarbage(random: Random): Buffer {
  const upgrade = upgradeRequest(controlPath);
  const change = (what: string | RegExp, to: string): Buffer =>
    Buffer.from(upgrade.replace(what, to), 'latin1');
  const header = (text: string): Buffer => change('\r\n\r\n', `\r\n${text}\r\n\r\n`);
  const long = 'a'.repeat(1 + below(random, 20_000));
  switch (below(random, 16)) {
    case 0:
      return noise(random, 1 + below(random, 500));
    case 1:
      return change(controlPath, `/${noise(random, 9).toString('base64url')}`);
    case 2:
      return change(controlPath, `${controlPath}/../${long}`);
    case 3:
      return header(`x-long: ${long}`);
    case 4:
      return header(
        Array.from({ length: below(random, 300) }, (_, i) => `h${i}: ${i}`).join('\r\n'),
      );
    case 5:
      return change('GET', pick(random, ['POST', 'CONNECT', 'PRI', 'M-SEARCH', '']) ?? '');
    case 6:
      return change('Upgrade: websocket', `Upgrade: ${pick(random, ['h2c', 'websocket2', ''])}`);
    case 7:
      return change(
        /Sec-WebSocket-Key: .*/,
        `Sec-WebSocket-Key: ${noise(random, 9).toString('hex')}`,
      );
    case 8:
      return change('Version: 13', `Version: ${below(random, 99)}`);
    case 9:
      return header('Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=99999');
    case 10:
      return header('Sec-WebSocket-Protocol: ,,\u0001,a,a');
    case 11:
      return header('Transfer-Encoding: chunked\r\nContent-Length: 99999999999999999999');
    case 12:
      return Buffer.from(`POST ${controlPath} HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nx`);
    case 13:
      return Buffer.from('GET / HTTP/1.1\r\n\r\n'.repeat(1 + below(random, 9)));
    case 14:
      return change('HTTP/1.1', `HTTP/${below(random, 99)}.${below(random, 99)}`);
    default:
      return broken(random, Buffer.from(upgrade));
  }
}

/** Returns the status of every HTTP answer in the received bytes, except `100 Continue`. */
function statusesIn(heard: Buffer): readonly string[] {
  const found = heard.toString('latin1').matchAll(/HTTP\/1\.1 (\d{3}) /g);
  return [...found].flatMap(([, status]) => (status === '100' ? [] : [`HTTP ${status}`]));
}

/**
 * Sends up to 24 hostile HTTP requests over one connection. In half of all calls, some bytes of the
 * last request are changed.
 */
async function throwRequests({ api, token }: Attacked, random: Random): Promise<Outcomes> {
  const line = new Line(api);
  if (!(await line.until(() => line.isOpen))) return [];
  const count = 1 + below(random, 24);
  for (let i = 1; i < count; i++) line.write(hostileRequest(random, token, 'keep-alive'));
  const last = hostileRequest(random, token, 'close');
  line.write(random() < 0.5 ? last : broken(random, last));
  line.finish();
  await line.untilEnded(hangUpMs);
  const statuses = statusesIn(line.heard).slice(0, count);
  line.close();
  // The last request may be incomplete. The server does not answer it then, but hangs up.
  return statuses.length === count - 1 ? [...statuses, 'hung up'] : statuses;
}

const methods = ['GET', 'POST', 'DELETE', 'PUT', 'HEAD', 'OPTIONS', 'PATCH', 'TRACE'];
const places = ['/healthz', '/readyz', '/status', '/metrics', '/jobs', '/jobs/job-1'];
const queries = [
  '?offset=-1',
  '?offset=1e9',
  '?wait=99999999',
  '?limit=0',
  '?before=job-0',
  '?%',
  '?',
];

function hostileRequest(random: Random, token: Token, connection: string): Buffer {
  const method = pick(random, methods) ?? 'GET';
  const path = hostilePath(random);
  const body = hostileBody(random);
  const lines = [`${method} ${path} HTTP/1.1`, 'host: master', `connection: ${connection}`];
  const stamp = hostileStamp(random, token, { method, path, body });
  if (stamp !== undefined) lines.push(`authorization: ${stamp}`);
  if (random() < 0.1) lines.push(`x: ${noise(random, 2000).toString('hex')}`);
  return Buffer.concat([
    Buffer.from([...lines, `content-length: ${body.length}`, '', ''].join('\r\n')),
    body,
  ]);
}

function hostilePath(random: Random): string {
  const place = pick(random, places) ?? '/';
  switch (below(random, 6)) {
    case 0:
      return `/${noise(random, below(random, 30)).toString('base64url')}`;
    case 1:
      return `${place}${pick(random, queries)}`;
    case 2:
      return `/jobs/${encodeURIComponent(noise(random, 6).toString('latin1'))}/log`;
    case 3:
      return `${pick(random, ['//', '/jobs//', '/jobs/../', 'http://x:y:z/', '*'])}jobs`;
    default:
      return place;
  }
}

function hostileBody(random: Random): Buffer {
  switch (below(random, 6)) {
    case 0:
      return noise(random, below(random, 200));
    case 1:
      return Buffer.from(JSON.stringify({ words: ['--no-such-flag', '--tpus', '1e9'] }));
    case 2:
      return Buffer.from(`{"words":${'['.repeat(below(random, 3000))}`);
    case 3:
      return broken(random, Buffer.from(JSON.stringify({ words: ['--tpus', '4096'] })));
    default:
      return Buffer.alloc(0);
  }
}

/**
 * Returns the value of an `authorization` header, or undefined for a request without this header.
 * The value is one of these:
 *
 * - random text;
 * - a signature with a wrong token, of another request, or with a time that is too old;
 * - a valid signature.
 */
function hostileStamp(
  random: Random,
  token: Token,
  request: { readonly method: string; readonly path: string; readonly body: Buffer },
): string | undefined {
  const now = Date.now();
  switch (below(random, 8)) {
    case 0:
      return `Pod ${now}.${noise(random, 16).toString('hex')}.${noise(random, 32).toString('hex')}`;
    case 1:
      return sign(wrongToken, request, now);
    case 2:
      return sign(token, { ...request, path: '/jobs?limit=1' }, now);
    case 3:
      return sign(token, request, now - 90_000);
    case 4:
      return noise(random, 40).toString('base64');
    case 5:
      // A request with a valid signature may cancel a job, so it would be no attack. Therefore a
      // request that cancels a job gets no signature.
      return isMandate(request) ? undefined : sign(token, request, now);
    default:
      return undefined;
  }
}

function isMandate({ method, path }: { readonly method: string; readonly path: string }): boolean {
  return method === 'DELETE' && path.includes('job-');
}

// ------------------------------------------------------------------------------------- WebSockets

async function throwWebSocket({ control, workers }: Attacked, random: Random): Promise<Outcomes> {
  const worker = pick(random, workers);
  const carried =
    worker !== undefined && random() < 0.3
      ? await openWebSocket(worker.ws, tensorPath)
      : await openWebSocket(control, controlPath);
  if (carried === undefined) return [];
  carried.line.write(brokenWebSocketFrame(random));
  return [await ending(carried)];
}

function brokenWebSocketFrame(random: Random): Buffer {
  const hello = maskedFrame(opcodes.binary, genuine(random));
  const change = (at: number, to: number): Buffer => {
    hello[at] = to;
    return hello;
  };
  switch (below(random, 12)) {
    case 0:
      return change(1, hello.readUInt8(1) & 0x7f);
    case 1:
      return change(0, 0x80 | 0x40 | opcodes.binary);
    case 2:
      return change(0, 0x80 | (3 + below(random, 5)));
    case 3:
      return maskedFrame(opcodes.ping, noise(random, 126 + below(random, 1000)));
    case 4:
      return change(0, opcodes.ping);
    case 5:
      return Buffer.concat([Buffer.from([0x82, 0xff]), Buffer.alloc(8, 0xff)]);
    case 6:
      return Buffer.concat([Buffer.from([0x82, 0xff, 0, 0, 0, 0, 0x7f]), Buffer.alloc(7)]);
    case 7:
      return maskedFrame(opcodes.text, noise(random, 40));
    case 8:
      return maskedFrame(opcodes.close, noise(random, 1 + below(random, 100)));
    case 9:
      return maskedFrame(0, noise(random, 20));
    case 10:
      return hello.subarray(0, below(random, hello.length));
    default:
      return broken(random, hello);
  }
}

/**
 * Ends the sending side of a connection and waits until the attacked process hangs up. Returns how
 * the attacked process ended the connection (see {@link lastWords}).
 */
async function ending(carried: Carried): Promise<string> {
  carried.line.finish();
  await carried.line.untilEnded(hangUpMs);
  const words = lastWords(carried);
  carried.line.close();
  return words;
}

// -------------------------------------------------------------------------------------- handshakes

const wrongToken = new Token(Buffer.from('a token that is not the right one'));

async function throwControlHandshake(it: Attacked, random: Random): Promise<Outcomes> {
  return throwHandshake(await openWebSocket(it.control, controlPath), it, random, 'control');
}

async function throwUnixHandshake(it: Attacked, random: Random): Promise<Outcomes> {
  const worker = pick(random, it.workers);
  return worker === undefined
    ? []
    : throwHandshake(await openStream(worker.unix), it, random, 'tensor');
}

async function throwTensorHandshake(it: Attacked, random: Random): Promise<Outcomes> {
  const worker = pick(random, it.workers);
  if (worker === undefined) return [];
  return throwHandshake(await openWebSocket(worker.ws, tensorPath), it, random, 'tensor');
}

/**
 * Attacks as an outsider, who does not know the token. Sends either a broken first frame, or a
 * handshake that ends with a wrong proof. (A proof shows that its sender knows the token.) The
 * wrong proof is made with a wrong token, is damaged, or is another frame.
 */
async function throwHandshake(
  carried: Carried | undefined,
  { generation }: Attacked,
  random: Random,
  channel: 'control' | 'tensor',
): Promise<Outcomes> {
  if (carried === undefined) return [];
  if (random() < 0.6) {
    carried.send(broken(random, genuine(random)));
    return [await ending(carried)];
  }
  const hello: Hello = { ...anyHello(random, generation), channel };
  const challenged = await beChallenged(carried, wrongToken, hello, random);
  if (challenged === undefined) return [await ending(carried)];
  carried.send(brokenProof(random, challenged.opening, challenged.proof));
  return [await ending(carried)];
}

function brokenProof(random: Random, opening: Buffer, proof: Buffer): Buffer {
  switch (below(random, 5)) {
    case 0:
      return proof;
    case 1:
      return opening;
    case 2:
      proof.writeUInt16LE(2 + below(random, 100), 4);
      return proof;
    case 3:
      return genuine(random);
    default:
      return broken(random, proof);
  }
}

function anyHello(random: Random, generation: number): Hello {
  return {
    channel: pick(random, channels) ?? 'control',
    role: pick(random, roles) ?? 'worker',
    from: pick(random, [0, 1, 2, 63, unnumbered, below(random, 2 ** 32)]) ?? 0,
    to: pick(random, [0, 1, unnumbered]) ?? 0,
    generation: pick(random, [0, generation, generation + 1, below(random, 2 ** 32)]) ?? 0,
  };
}

/**
 * The last proof that the attacker has sent on each channel. The key is the name of the channel. A
 * proof shows that its sender knows the token, and is valid for one challenge only. If the attacker
 * sends it again, the pod must refuse it.
 */
const usedProofs = new Map<string, Buffer>();

/**
 * Makes a handshake on the control port as an insider, who knows the token. The first frame of the
 * handshake may name another channel. The proof of the handshake may be an old one, from an earlier
 * handshake (replay).
 */
async function throwControlInsider(it: Attacked, random: Random): Promise<Outcomes> {
  const carried = await openWebSocket(it.control, controlPath);
  if (carried === undefined) return [];
  const hello = anyHello(random, it.generation);
  const challenged = await beChallenged(carried, it.token, hello, random);
  if (challenged === undefined) return [await ending(carried)];
  const used = usedProofs.get('control');
  const sent = used !== undefined && random() < 0.5 ? used : challenged.proof;
  usedProofs.set('control', Buffer.from(sent));
  carried.send(sent);
  await carried.line.until(() => carried.replies().length > 1);
  return [welcomeOr(carried, await ending(carried))];
}

async function throwTensorInsider(it: Attacked, random: Random): Promise<Outcomes> {
  const carried = await openTensors(it, random);
  if (carried === undefined) return [];
  const hello = anyHello(random, it.generation);
  await beWelcome(carried, it.token, hello, random);
  carried.send(creditOf(random, it.generation));
  return [welcomeOr(carried, await ending(carried))];
}

function welcomeOr(carried: Carried, words: string): string {
  const isWelcome = carried.replies().some(({ kind }) => kind === frameKinds.welcome);
  return isWelcome ? `welcome, then ${words}` : words;
}

async function openTensors(it: Attacked, random: Random): Promise<Carried | undefined> {
  const worker = pick(random, it.workers);
  if (worker === undefined) return undefined;
  return random() < 0.3 ? openWebSocket(worker.ws, tensorPath) : openStream(worker.unix);
}

function creditOf(random: Random, generation: number): Buffer {
  const kind = pick(random, [frameKinds.credit, frameKinds.tensor]) ?? frameKinds.credit;
  const header = { ...emptyHeader(), kind, queue: below(random, 70), returned: below(random, 9) };
  return encodeFrame({ ...header, generation }, noise(random, kind === frameKinds.tensor ? 64 : 0));
}

/**
 * Makes a handshake with a worker as an insider, who knows the token. Then asks for the worker's
 * parameters; the query may be invalid. In some attacks the attacker does not read the answer. In
 * the others it sends a second query, or a frame of another channel, as soon as parameters arrive.
 */
async function throwStateInsider(it: Attacked, random: Random): Promise<Outcomes> {
  const carried = await openTensors(it, random);
  if (carried === undefined) return [];
  const hello: Hello = {
    ...anyHello(random, it.generation),
    channel: 'state',
    generation: it.generation,
  };
  if (!(await beWelcome(carried, it.token, hello, random))) return [await ending(carried)];
  const isDeaf = random() < 0.2;
  if (isDeaf) carried.line.deafen();
  carried.send(stateQuery(random, it.generation));
  if (isDeaf) {
    await carried.line.untilEnded(50);
    carried.line.close();
    return ['not listened to'];
  }
  const isServed = (): boolean => carried.replies().some(({ kind }) => kind === frameKinds.state);
  // A worker does not answer an incomplete query, so the attacker waits at most 500 ms.
  await Promise.race([carried.line.until(isServed), carried.line.untilEnded(500)]);
  if (!isServed()) return [await ending(carried)];
  carried.send(
    random() < 0.5 ? stateQuery(random, it.generation) : creditOf(random, it.generation),
  );
  return ['served', await ending(carried)];
}

function stateQuery(random: Random, generation: number): Buffer {
  const query = encodeFrame({
    ...{ ...emptyHeader(), kind: frameKinds.state },
    generation: pick(random, [generation, generation, generation, generation + 1]) ?? generation,
    collective: pick(random, [0, 1, 2, 99, 0xffffffff]) ?? 0,
    sequence: pick(random, [0, 1, below(random, 2 ** 32)]) ?? 0,
  });
  return random() < 0.7 ? query : broken(random, query);
}

// ---------------------------------------------------------------------------------------- messages

/** The number of well-formed messages on one connection is less than this. */
const messagesMax = 90;

/**
 * Makes a handshake on the control port with the right token, but has no Cloud TPU. Then sends
 * well-formed messages of a worker, which may name any Cloud TPU. At the end it may send a
 * malformed message.
 */
async function throwMessages(it: Attacked, random: Random): Promise<Outcomes> {
  const carried = await openWebSocket(it.control, controlPath);
  if (carried === undefined) return [];
  const role = pick(random, ['worker', 'spare'] as const) ?? 'worker';
  const hello: Hello = { ...anyHello(random, it.generation), channel: 'control', role };
  if (!(await beWelcome(carried, it.token, hello, random))) return [];
  const count = below(random, messagesMax);
  let taken = 0;
  for (let i = 0; i < count; i++) {
    carried.send(encodeMessage(wellFormed(random, it.generation)));
    taken++;
  }
  const last = malformed(random, it.generation);
  if (last !== undefined) carried.line.write(last.frame);
  const isRefused = last?.isRefused ?? false;
  if (!isRefused) {
    const isSettled = await carried.settled();
    carried.line.close();
    const all = Array.from({ length: taken + (last === undefined ? 0 : 1) }, () => 'taken');
    return isSettled ? all : ['broke off unexpectedly'];
  }
  await carried.line.untilEnded(hangUpMs);
  const words = lastWords(carried);
  carried.line.close();
  return [...Array.from({ length: taken }, () => 'taken'), words];
}

interface LastMessage {
  readonly frame: Buffer;
  /** True if the master must end the connection because of this message. */
  readonly isRefused: boolean;
}

function malformed(random: Random, generation: number): LastMessage | undefined {
  const message = wellFormed(random, generation);
  const packed = encodeMessage(message);
  const refused = (bytes: Buffer): LastMessage => ({ frame: longFrame(bytes), isRefused: true });
  switch (below(random, 12)) {
    case 0:
      return refused(Buffer.alloc(1 + below(random, 2000), 0x91));
    case 1:
      return refused(Buffer.concat([Buffer.from([0xdd, 0xff, 0xff, 0xff, 0xff]), packed]));
    case 2:
      return refused(Buffer.concat([Buffer.from([0xc6, 0x7f, 0xff, 0xff, 0xff]), packed]));
    case 3:
      return refused(Buffer.concat([Buffer.from([0xd4, 0x74]), packed]));
    case 4:
      return refused(encodeMessage({ ...message, more: noise(random, 9).toString('hex') }));
    case 5:
      return refused(encodeMessage({ ...message, kind: 'no such kind' }));
    case 6:
      return { frame: maskedFrame(opcodes.text, packed), isRefused: true };
    case 7:
      if (random() < 0.1) return refused(Buffer.alloc(messageBytesMax + 1, 0xc0));
      return refused(Buffer.concat([packed, packed]));
    case 8:
      return refused(
        encodeFrame({ ...emptyHeader(), kind: frameKinds.tensor, generation }, noise(random, 8)),
      );
    default: {
      const bytes = broken(random, packed);
      return { frame: longFrame(bytes), isRefused: isWrong(bytes) };
    }
  }
}

/** True if the master must end the connection because these bytes are no valid message. */
function isWrong(bytes: Buffer): boolean {
  if (isFrame(bytes)) return true;
  const decoded = decodeMessage(bytes);
  if (decoded.kind === 'refuse') return true;
  try {
    checkFromNode(decoded.value);
    return false;
  } catch {
    return true;
  }
}

function longFrame(bytes: Buffer): Buffer {
  if (bytes.length < 65536) return maskedFrame(opcodes.binary, bytes);
  const head = Buffer.alloc(14);
  head[0] = 0x80 | opcodes.binary;
  head[1] = 0xff;
  head.writeBigUInt64BE(BigInt(bytes.length), 2);
  // The last four bytes of `head` are the mask. All are zero, so the masked payload equals `bytes`.
  return Buffer.concat([head, bytes]);
}

/** Returns a well-formed message from a worker to the master, with random content. */
function wellFormed(random: Random, generation: number): Readonly<Record<string, unknown>> {
  switch (below(random, 6)) {
    case 0:
      return { kind: 'heartbeat', progress: below(random, 2 ** 40) };
    case 1:
      return { kind: 'answer', id: below(random, 99), why: null, bytes: noise(random, 30) };
    case 2: {
      const offer = { host: '127.0.0.1', port: below(random, 65536), unixPath: '/nowhere' };
      return { kind: 'offer', pid: below(random, 2 ** 22), hostname: 'attacker', offer };
    }
    case 3:
      return { kind: 'left' };
    default: {
      const sent = [below(random, 64), below(random, 2 ** 40)];
      return { kind: 'pod', message: ofWorker(random, generation), sent };
    }
  }
}

function ofWorker(random: Random, now: number): Readonly<Record<string, unknown>> {
  const tpu = pick(random, [0, 1, 2, 2 ** 40]);
  const generation = pick(random, [now, now + 1, 0, Number.MAX_SAFE_INTEGER]);
  const digest = noise(random, 8).toString('hex');
  const failure = { code: 'worker-threw', message: 'says an attacker' };
  switch (below(random, 6)) {
    case 0:
      return { kind: 'joined', tpu, generation, steps: pick(random, [null, [below(random, 99)]]) };
    case 1:
      return { kind: 'aborted', tpu, generation };
    case 2:
      return { kind: 'ready', tpu, generation, digests: [digest] };
    case 3:
      return { kind: 'accused', tpu, generation, suspect: below(random, 3), ...failure };
    case 4:
      return { kind: 'failed', tpu, generation, ...failure };
    default: {
      const step = { program: 0, step: below(random, 1000), phaseMs: [1, 2, 3, 4, 5, 6] };
      const outfeed = [noise(random, 16)];
      const linkWaitMs = [1, Number.NaN, -1];
      return { kind: 'step-done', tpu, generation, ...step, digest, outfeed, linkWaitMs };
    }
  }
}
