import { randomUUID } from 'node:crypto';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { WebSocket } from 'ws';
import { encodeMessage } from '../cluster/net/codec.ts';
import { Connection } from '../cluster/net/connection.ts';
import type { ControlChannel, ControlSession } from '../cluster/net/control.ts';
import { acceptControl, connectControl, listenControl } from '../cluster/net/control.ts';
import type { FrameHeader, FrameSink } from '../cluster/net/frame.ts';
import {
  emptyHeader,
  encodeFrame,
  FrameReader,
  frameKinds,
  headerBytes,
} from '../cluster/net/frame.ts';
import { connectingHandshake, type Hello, listeningHandshake } from '../cluster/net/handshake.ts';
import { Pump } from '../cluster/net/pump.ts';
import { crossings, frameSizes, type Hosting, layOutPump } from '../cluster/net/route.ts';
import { makeSegment } from '../cluster/net/segment.ts';
import { listenTensors } from '../cluster/net/tensor-socket.ts';
import { Token } from '../cluster/net/token.ts';
import type { Wire } from '../cluster/net/wire.ts';
import { sumKernels } from '../src/fabric/kernels/sum.ts';
import { podTorus } from '../src/fabric/torus.ts';
import { assert } from '../src/numerics/assert.ts';
import { PodError } from '../src/numerics/error.ts';
import { mulberry32, type Random } from '../src/numerics/generator.ts';
import { script, whole } from './command.ts';
import { broken, genuine, pick } from './fuzz-inputs.ts';

/**
 * Result of this script. The script attacks a master and the tensor sockets of a worker with broken
 * frames, handshakes and messages. Meanwhile an honest client exchanges messages with the same
 * master. The attack must not interrupt this exchange:
 *
 *     node dist/scripts/fuzz-frames.js [count] [seed]
 */
export interface FuzzResult {
  /**
   * `counts[target][outcome]` is the number of inputs to a target that had this outcome. A target
   * is a part of the network code. The outcomes are `accepted`, `waits` and the codes of refusals.
   */
  readonly counts: Readonly<Record<string, Readonly<Record<string, number>>>>;
  /** Number of inputs that went over real sockets. */
  readonly overSockets: number;
  /** Number of answers that the honest client received from the master. */
  readonly roundTrips: number;
  /** How often the honest client lost its channel. */
  readonly losses: number;
  /**
   * Growth of the resident memory of this process, in bytes, from the end of the first tenth of the
   * inputs to the end of the last input.
   */
  readonly growthBytes: number;
}

type Counts = Record<string, Record<string, number>>;
/**
 * A part of the network code that is attacked. A call gives one hostile input to the part and
 * returns the outcome: `accepted`, `waits` (the part waits for more bytes), or the code with which
 * the part has refused the input.
 */
type Target = (random: Random) => string;

const token = new Token(Buffer.from('a token for fuzzing only'));
/** After this many inputs to the targets, one input goes over a real socket. */
const socketEvery = 100;
const generation = 3;
const sizes = frameSizes(podTorus({ columns: 2, rows: 1 }), 1_000_000);
const frameBytesMax = sizes.frameBytes;
const lengths = [frameBytesMax, frameBytesMax + 4];

export async function fuzz(count: number, seed: number): Promise<FuzzResult> {
  const random = mulberry32(seed);
  const place = await makePlace();
  const targets: Record<string, Target> = {
    'control handshake': controlHandshake,
    'control message': controlMessages(),
    'tensor handshake': tensorHandshake,
    tensor: tensorFrames(place.newPump),
    credit: creditFrames(place.newPump),
  };
  const segment = makeSegment(segmentRange());
  // Segments of shared memory exist on Linux only. On other systems `segment` is an error message.
  if (typeof segment !== 'string') targets['shared'] = sharedFrames(place.newPump, segment.offer);
  const names = Object.keys(targets);
  const counts: Counts = Object.fromEntries(names.map((name) => [name, {}]));
  let overSockets = 0;
  let before = 0;
  for (let i = 0; i < count; i++) {
    const name = names[i % names.length] ?? '';
    const outcome = targets[name]?.(random) ?? '';
    const ofName = counts[name] ?? {};
    ofName[outcome] = (ofName[outcome] ?? 0) + 1;
    if (i % socketEvery === 0) {
      await place.throwAt(random);
      overSockets++;
    }
    if (i % 50 === 0) await turn();
    if (i === Math.floor(count / 10)) before = settledBytes();
  }
  await place.settle();
  const growthBytes = settledBytes() - before;
  const { roundTrips, losses } = place.honest;
  await place.close();
  if (typeof segment !== 'string') segment.close();
  return { counts, overSockets, roundTrips, losses, growthBytes };
}

function settledBytes(): number {
  globalThis.gc?.();
  return process.memoryUsage().rss;
}

/**
 * Opens the control port of a master and the tensor sockets of a worker, which are attacked, and
 * connects the honest client to the master.
 */
async function makePlace() {
  const honest = { roundTrips: 0, losses: 0 };
  const master = await listenControl<Ping, Ping>({
    ...{ token, host: '127.0.0.1', port: 0, heartbeatMs: 60_000, check: checkPing },
    joined: (channel) => ({ message: (it) => channel.send(it), closed: () => undefined }),
    turnedAway: () => undefined,
  });
  const hosting: Hosting = { torus: podTorus({ columns: 2, rows: 1 }), processOf: [0, 1], self: 0 };
  const newPump = pumpMaker(hosting);
  const pump = newPump();
  const unixPath = join(tmpdir(), `pod-fuzz-${randomUUID()}.sock`);
  const worker = await listenTensors({
    ...{ token, host: '127.0.0.1', port: 0, unixPath },
    admit: () => undefined,
    open: (hello, wire) => pump.openOut(hello.from, wire),
    drained: (hello, wire) => pump.drained(hello.from, wire),
    closed: () => undefined,
    turnedAway: () => undefined,
  });
  const client = connectControl<Ping, Ping>({
    ...{ token, url: `ws://127.0.0.1:${master.port}`, check: checkPing, heartbeatMs: 60_000 },
    hello: () => ({ role: 'worker', from: 1, to: 0, generation }),
    ...{ backoff: { firstMs: 10, mostMs: 100 }, random: () => 0.5 },
    joined(channel) {
      channel.send({ kind: 'ping', count: 0 });
      return {
        message({ count }) {
          honest.roundTrips++;
          channel.send({ kind: 'ping', count: count + 1 });
        },
        closed: () => undefined,
      };
    },
    retrying: () => {
      honest.losses++;
    },
    failed: (error) => {
      throw error;
    },
  });
  const open = new Set<Promise<void>>();
  return {
    honest,
    newPump,
    /**
     * Starts an attack: sends one broken frame to a random socket of the master or worker. Usually
     * returns before the attack has ended. If 32 or more attacks are going on, first waits until
     * one of them has ended.
     */
    async throwAt(random: Random): Promise<void> {
      const which = Math.floor(random() * 4);
      const bytes = broken(random, genuine(random), lengths);
      const attack =
        which === 0
          ? overWebSocket(`ws://127.0.0.1:${master.port}/control`, bytes)
          : which === 1
            ? overWebSocket(`ws://127.0.0.1:${worker.port}/tensor`, bytes)
            : which === 2
              ? overStream({ path: unixPath }, bytes)
              : overStream({ port: master.port, host: '127.0.0.1' }, bytes);
      open.add(attack);
      void attack.then(() => open.delete(attack));
      if (open.size >= 32) await Promise.race(open);
    },
    async settle(): Promise<void> {
      await Promise.all(open);
      const seen = honest.roundTrips;
      while (honest.roundTrips === seen) await turn();
    },
    async close(): Promise<void> {
      client.close();
      pump.stop();
      await Promise.all([master.close(), worker.close()]);
    },
  };
}

/**
 * Returns a function that makes pumps. A pump moves frames between the memory of a process and its
 * sockets. All pumps of the function use the same memory.
 */
function pumpMaker(hosting: Hosting): () => Pump {
  const layout = layOutPump(hosting, sizes, 0);
  const pages = Math.ceil(layout.end / 65536);
  const memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
  const kernels = sumKernels(memory);
  const unshared = (): void => undefined;
  return () =>
    new Pump({ memory, hosting, sizes, layout, kernels, generation, shares: true, unshared });
}

function overWebSocket(url: string, bytes: Buffer): Promise<void> {
  return new Promise((resolve) => {
    const ws = new WebSocket(url, { handshakeTimeout: 5000 });
    ws.on('error', () => undefined);
    ws.on('close', () => resolve());
    ws.on('open', () => {
      ws.send(bytes);
      ws.close();
    });
  });
}

function overStream(
  where: { readonly path: string } | { readonly port: number; readonly host: string },
  bytes: Buffer,
): Promise<void> {
  return new Promise((resolve) => {
    const socket = connect(where);
    socket.on('error', () => undefined);
    socket.on('close', () => resolve());
    socket.on('data', () => undefined);
    socket.end(bytes);
  });
}

interface Ping {
  readonly kind: 'ping';
  readonly count: number;
}

function checkPing(value: unknown): Ping {
  const ping = (typeof value === 'object' && value !== null ? value : {}) as Partial<Ping>;
  if (ping.kind === 'ping' && Number.isSafeInteger(ping.count)) return ping as Ping;
  throw new PodError('worker-threw', 'a malformed message: no ping');
}

/**
 * Attacks the master's side of a new control channel, on which the peer has not yet proved that it
 * knows the token.
 */
function controlHandshake(random: Random): string {
  let outcome = 'waits';
  const session = controlSession((why) => {
    outcome = why;
  });
  session.receive(broken(random, genuine(random), lengths));
  return outcome;
}

/** Attacks the master's side of a control channel after a valid handshake. */
function controlMessages(): Target {
  let session: ControlSession<Ping, Ping> | undefined;
  let outcome = '';
  return (random) => {
    if (session === undefined) {
      session = openedSession((why) => {
        outcome = why;
      });
    }
    outcome = '';
    const message = { kind: 'ping', count: Math.floor(random() * 1e9), more: [1.5, 'x', null] };
    session.receive(broken(random, encodeMessage(message), lengths));
    if (outcome === '') return 'accepted';
    session = undefined;
    return outcome;
  };
}

function controlSession(closed: (why: string) => void, replies: Buffer[] = []) {
  return acceptControl<Ping, Ping>(
    replyWire(replies),
    {
      ...{ token, check: checkPing, heartbeatMs: 60_000, turnedAway: () => undefined },
      joined: (_: ControlChannel<Ping>) => ({
        message: () => undefined,
        closed: (refusal) => closed(refusal?.code ?? 'closed'),
      }),
    },
    { joined: () => undefined, turnedAway: (refusal) => closed(refusal.code) },
  );
}

function openedSession(closed: (why: string) => void): ControlSession<Ping, Ping> {
  const replies: Buffer[] = [];
  const session = controlSession(closed, replies);
  const hello: Hello = { channel: 'control', role: 'worker', from: 1, to: 0, generation };
  const handshake = connectingHandshake(token, hello, Buffer.alloc(32, 1));
  session.receive(handshake.opening);
  const challenge = replies.pop() ?? Buffer.alloc(0);
  const header: FrameHeader = { ...emptyHeader(), kind: frameKinds.challenge };
  const step = handshake.receive(header, challenge.subarray(headerBytes));
  assert(step.kind === 'go-on' && step.send !== undefined, 'a handshake that does not go on');
  session.receive(step.send);
  return session;
}

function tensorHandshake(random: Random): string {
  let outcome = 'waits';
  const handshake = listeningHandshake(token, ['tensor'], Buffer.alloc(32, 2), () => undefined);
  const connection = new Connection(replyWire([]), handshake, {
    open: () => ({ code: 'peer', text: 'none is open to fuzzing' }),
    closed: (refusal) => {
      outcome = refusal?.code ?? 'closed';
    },
  });
  connection.push(broken(random, genuine(random), lengths));
  return outcome;
}

/** Attacks the part of a worker that receives tensor frames from a neighbour. */
function tensorFrames(newPump: () => Pump): Target {
  return frames(
    () => newPump().openIn(1, replyWire([])),
    (random) => {
      const { queue = 0 } = pick(random, crossings(twoProcesses).in) ?? {};
      const bytes = random() < 0.05 ? frameBytesMax : 4 * Math.floor(random() * 64);
      const header = { ...emptyHeader(), kind: frameKinds.tensor, generation, queue };
      return encodeFrame(header, Buffer.alloc(bytes, Math.floor(random() * 256)));
    },
  );
}

/**
 * Attacks the part of a worker that receives payloads through shared memory. The first frame on a
 * connection offers a segment of shared memory, which the worker maps. Each later frame is a header
 * whose payload lies in the segment. All payloads are zeros.
 */
function sharedFrames(newPump: () => Pump, offer: Uint8Array): Target {
  return frames(
    () => newPump().openIn(1, { ...replyWire([]), isLocal: true }),
    (random) => {
      const { queue = 0 } = pick(random, crossings(twoProcesses).in) ?? {};
      const header = { ...emptyHeader(), kind: frameKinds.shared, generation, queue };
      const zeros = Buffer.alloc(4 * Math.floor(random() * 64));
      return encodeFrame(header, zeros).subarray(0, headerBytes);
    },
    encodeFrame({ ...emptyHeader(), kind: frameKinds.segment, generation }, offer),
  );
}

/** Returns new memory that is as large as a segment of shared memory between two processes. */
function segmentRange(): Uint8Array {
  const bytes = layOutPump(twoProcesses, sizes, 0).segments.in[0]?.bytes ?? 0;
  const pages = bytes / 65536;
  const memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
  return new Uint8Array(memory.buffer);
}

/**
 * Attacks the part of a worker that receives credits (permissions to send more frames) from a
 * neighbour.
 */
function creditFrames(newPump: () => Pump): Target {
  return frames(
    () => newPump().openOut(1, replyWire([])),
    (random) => {
      const { queue = 0 } = pick(random, crossings(twoProcesses).out) ?? {};
      return encodeFrame({ ...emptyHeader(), kind: frameKinds.credit, generation, queue });
    },
  );
}

const twoProcesses: Hosting = {
  torus: podTorus({ columns: 2, rows: 1 }),
  processOf: [0, 1],
  self: 0,
};

/**
 * Returns a target that feeds frames to a frame reader. Most of the frames are broken. Each new
 * reader first gets the valid frame `first`. When a reader refuses a frame, a new reader takes its
 * place.
 */
function frames(
  open: () => FrameSink | { code: string },
  make: (random: Random) => Buffer,
  first: Buffer = Buffer.alloc(0),
): Target {
  let reader: FrameReader | undefined;
  return (random) => {
    if (reader === undefined) {
      const sink = open();
      assert(!('code' in sink), 'a sink that does not open');
      reader = new FrameReader(sink);
      assert(reader.push(first) === undefined, 'a first frame that is refused');
    }
    const refusal = reader.push(
      random() < 0.3 ? make(random) : broken(random, make(random), lengths),
    );
    if (refusal) reader = undefined;
    return refusal?.code ?? 'accepted';
  };
}

function replyWire(replies: Buffer[]): Wire {
  return {
    write(head) {
      replies.push(Buffer.from(head));
      return true;
    },
    waiting: 0,
    end: () => undefined,
  };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const command = script(
    'fuzz-frames',
    'send broken frames, handshakes and messages to the listening ends of a master and a worker',
    '100000 7',
  )
    .addArgument(whole('count', 'inputs', 1_000_000))
    .addArgument(whole('seed', 'seed of the random inputs', 1));
  const [count, seed] = command.parse().processedArgs as [number, number];
  const { counts, growthBytes, ...rest } = await fuzz(count, seed);
  const growthMiB = Math.round(growthBytes / 2 ** 20);
  console.log(JSON.stringify({ inputs: count, seed, ...rest, growthMiB, counts }));
  process.exitCode = growthMiB < 64 && rest.losses === 0 && rest.roundTrips > 0 ? 0 : 1;
}
