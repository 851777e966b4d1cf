import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { frameSizes, type Hosting, layOutPump } from '../../cluster/net/route.ts';
import {
  connectTensors,
  listenTensors,
  type TensorOffer,
} from '../../cluster/net/tensor-socket.ts';
import { Token } from '../../cluster/net/token.ts';
import { Ici } from '../../cluster/process/ici.ts';
import { Doorbell } from '../../src/fabric/doorbell.ts';
import {
  EngineClient,
  type EngineLayout,
  layOutEngine,
  resetEngine,
} from '../../src/fabric/engine.ts';
import { type FabricLayout, layOutFabric, resetFabric } from '../../src/fabric/fabric-memory.ts';
import { serialElement } from '../../src/fabric/serial-sum.ts';
import { flatTorus } from '../../src/fabric/torus.ts';

/**
 * Orders to a process of the benchmark: first `listen`, then `connect`, then any number of `run`.
 * The process answers each order with a {@link RankAnswer}.
 */
export type RankOrder =
  | { readonly kind: 'listen'; readonly task: RankTask }
  | { readonly kind: 'connect'; readonly offers: readonly TensorOffer[] }
  | { readonly kind: 'run'; readonly checked: boolean };

export interface RankTask {
  readonly width: number;
  readonly height: number;
  readonly self: number;
  readonly elements: number;
  readonly unixPath: string | undefined;
  /** True if payloads use shared memory; this needs a unix socket. */
  readonly shares: boolean;
}

export type RankAnswer =
  | { readonly kind: 'offer'; readonly offer: TensorOffer }
  | { readonly kind: 'connected' }
  /** Milliseconds of the all-reduce in this process, from the end of the barrier on. */
  | { readonly kind: 'ran'; readonly ms: number };

/** Task of the second thread of a process (see {@link serveRuns}). */
interface ThreadTask {
  readonly hosting: Hosting;
  readonly memory: WebAssembly.Memory;
  readonly layout: FabricLayout;
  readonly engine: EngineLayout;
  readonly address: number;
  readonly elements: number;
}

const generation = 1;
/**
 * Number of elements of a small all-reduce. It runs before the timed all-reduce and serves as a
 * barrier.
 */
const barrierElements = 64;
const deadlineMs = 20_000;
const token = new Token(Buffer.from('a token for measuring'));

if (isMainThread) serveOrders();
else serveRuns(workerData as ThreadTask);

/** Runs the main thread of a process. This thread owns the sockets and computes the sums. */
function serveOrders(): void {
  const answer = (it: RankAnswer): void => void process.send?.(it);
  let rank: Awaited<ReturnType<typeof listen>> | undefined;
  process.on('disconnect', () => process.exit(0));
  process.on('message', async (order: RankOrder) => {
    if (order.kind === 'listen') {
      rank = await listen(order.task);
      answer({ kind: 'offer', offer: rank.offer });
    } else if (order.kind === 'connect') {
      await rank?.connect(order.offers);
      answer({ kind: 'connected' });
    } else rank?.thread.postMessage(order.checked);
  });
}

async function listen({ width, height, self, elements, unixPath, shares }: RankTask) {
  const torus = flatTorus(width, height);
  const processOf = Array.from({ length: torus.workers }, (_, worker) => worker);
  const hosting: Hosting = { torus, processOf, self };
  const layout = layOutFabric(torus, 1024);
  const engine = layOutEngine(layout.base + layout.bytes, 2);
  const sizes = frameSizes(torus, elements);
  const pumpLayout = layOutPump(hosting, sizes, engine.base + engine.bytes);
  const address = pumpLayout.end;
  const barrierAt = address + elements * 4;
  const pages = Math.ceil((barrierAt + barrierElements * 4) / 65536);
  const memory = new WebAssembly.Memory({ initial: pages, maximum: 65536, shared: true });
  resetFabric(memory, layout);
  resetEngine(memory, engine);
  const buckets = [
    { address, stride: elements * 4, elements },
    { address: barrierAt, stride: barrierElements * 4, elements: barrierElements },
  ];
  const places = {
    fabric: layout,
    engine,
    collectives: buckets,
    pump: pumpLayout,
    frameSizes: sizes,
  };
  const ici = new Ici({
    ...{ memory, layout: places, hosting, generation, shares },
    unshared(peer, cause) {
      throw new Error(`unshared with ${peer}: ${cause}`);
    },
    silent(peer) {
      throw new Error(`nothing arrives from ${peer}`);
    },
  });
  const { pump } = ici;
  const task: ThreadTask = { hosting, memory, layout, engine, address, elements };
  const thread = new Worker(new URL(import.meta.url), { workerData: task });
  thread.on('message', (ran: RankAnswer) => process.send?.(ran));
  const server = await listenTensors({
    ...{ token, host: '127.0.0.1', port: 0 },
    ...(unixPath === undefined ? {} : { unixPath }),
    admit: () => undefined,
    open: (hello, wire) => pump.openOut(hello.from, wire),
    drained: (hello, wire) => pump.drained(hello.from, wire),
    closed: () => undefined,
    turnedAway: (refusal) => console.error(refusal),
  });
  const offer = { host: '127.0.0.1', port: server.port };
  return {
    thread,
    offer: unixPath === undefined ? offer : { ...offer, unixPath },
    async connect(offers: readonly TensorOffer[]): Promise<void> {
      await Promise.all(pump.peers.in.map((peer) => connect(pump, self, peer, offers)));
      ici.start();
    },
  };
}

function connect(
  pump: Ici['pump'],
  self: number,
  peer: number,
  offers: readonly TensorOffer[],
): Promise<void> {
  const offer = offers[peer];
  if (offer === undefined) throw new Error(`no offer of process ${peer}`);
  return new Promise((resolve) => {
    connectTensors({
      ...{ token, offer, hello: { channel: 'tensor', from: self, to: peer, generation } },
      open(wire) {
        resolve();
        return pump.openIn(peer, wire);
      },
      closed: (refusal) => {
        if (refusal && process.connected) console.error(refusal);
      },
    });
  });
}

/**
 * Runs the second thread of a process. This thread fills the vectors, starts the all-reduces and
 * waits for their ends.
 */
function serveRuns({ hosting, memory, layout, engine, address, elements }: ThreadTask): void {
  const { torus, self } = hosting;
  const doorbell = new Doorbell(memory, layout, self);
  const allReduce = new EngineClient(memory, engine, doorbell, () => performance.now());
  const vector = new Float32Array(memory.buffer, address, elements);
  parentPort?.on('message', (checked: boolean) => {
    if (checked) for (let i = 0; i < elements; i++) vector[i] = value(self, i);
    reduce(1);
    const startedAt = performance.now();
    reduce(0);
    const ms = performance.now() - startedAt;
    if (checked) check(vector);
    const ran: RankAnswer = { kind: 'ran', ms };
    parentPort?.postMessage(ran);
  });

  function reduce(bucket: number): void {
    allReduce.start(bucket);
    allReduce.finish(bucket, performance.now() + deadlineMs);
  }

  function check(sum: Float32Array): void {
    for (let i = self; i < sum.length; i += 9973) {
      const expected = serialElement(torus, sum.length, i, (chip) => value(chip, i));
      if (sum[i] !== expected) throw new Error(`element ${i}: ${sum[i]}, expected ${expected}`);
    }
  }
}

/**
 * Returns element `element` of a chip's vector. The values are such that a sum over chips depends
 * on the order of the additions.
 */
function value(chip: number, element: number): number {
  const hash = Math.imul(element + 1, 2654435761) ^ Math.imul(chip + 1, 40503);
  return Math.fround(hash * 2 ** -31);
}
