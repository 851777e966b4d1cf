import { randomUUID } from 'node:crypto';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import type { Refusal } from '../../../cluster/net/frame.ts';
import { Pump } from '../../../cluster/net/pump.ts';
import {
  type FrameSizes,
  frameSizes,
  type Hosting,
  layOutPump,
  type PumpLayout,
} from '../../../cluster/net/route.ts';
import type { TensorClient, TensorServer } from '../../../cluster/net/tensor-socket.ts';
import { connectTensors, listenTensors } from '../../../cluster/net/tensor-socket.ts';
import { Token } from '../../../cluster/net/token.ts';
import { Collectives } from '../../../src/fabric/collectives.ts';
import { Doorbell } from '../../../src/fabric/doorbell.ts';
import { layOutFabric, resetFabric } from '../../../src/fabric/fabric-memory.ts';
import { sumKernels } from '../../../src/fabric/kernels/sum.ts';
import { memoryLinks } from '../../../src/fabric/memory-link.ts';
import { chipsOf, type Torus } from '../../../src/fabric/torus.ts';

export const token: Token = new Token(Buffer.from('a token that only tests know'));

/**
 * State of one emulated process. Each emulated process has its own memory. The real process that
 * runs the test contains several emulated ones.
 */
export interface Process {
  readonly hosting: Hosting;
  readonly pump: Pump;
  readonly sizes: FrameSizes;
  readonly layout: PumpLayout;
  /** For each worker in this process, by number: its all-reduce. */
  readonly workers: ReadonlyMap<number, Collectives>;
  /**
   * Returns the vector of a chip of this process, without copying it. After an all-reduce, the
   * vector of each worker's first chip contains the sum over all chips.
   */
  vector(chip: number): Float32Array;
}

export function makeProcess(
  hosting: Hosting,
  elements: number,
  generation: number,
  shares: boolean = false,
): Process {
  const { torus, processOf, self } = hosting;
  const layout = layOutFabric(torus, 1024);
  const sizes = frameSizes(torus, elements);
  const pumpLayout = layOutPump(hosting, sizes, layout.base + layout.bytes);
  const vectorsAt = pumpLayout.end;
  const stride = elements * 4;
  const hosted = [...processOf.keys()].filter((worker) => processOf[worker] === self);
  const chips = hosted.flatMap((worker) => chipsOf(torus, worker));
  const pages = Math.ceil((vectorsAt + chips.length * stride) / 65536);
  const memory = new WebAssembly.Memory({ initial: pages, maximum: 65536, shared: true });
  resetFabric(memory, layout);
  const address = (chip: number): number => vectorsAt + chips.indexOf(chip) * stride;
  const kernels = sumKernels(memory);
  const pump = new Pump({
    ...{ memory, hosting, sizes, kernels, generation, shares },
    layout: pumpLayout,
    unshared(peer, cause) {
      throw new Error(`unshared with ${peer}: ${cause}`);
    },
  });
  const workers = hosted.map((worker): [number, Collectives] => {
    const doorbell = new Doorbell(memory, layout, worker);
    const links = pump.links(memoryLinks(memory, layout, torus, doorbell));
    const first = chipsOf(torus, worker)[0] ?? 0;
    const buckets = [{ address: address(first), stride, elements }];
    const { frameElements } = sizes;
    const allReduce = new Collectives({
      ...{
        torus,
        worker,
        generation,
        kernels,
        links,
        doorbell,
        collectives: buckets,
        frameElements,
      },
      now: () => 0,
    });
    pump.drive(allReduce);
    return [worker, allReduce];
  });
  return {
    hosting,
    sizes,
    layout: pumpLayout,
    pump,
    workers: new Map(workers),
    vector: (chip) => new Float32Array(memory.buffer, address(chip), elements),
  };
}

/** An emulated process together with its sockets. */
export interface Node {
  readonly process: Process;
  readonly server: TensorServer;
  readonly clients: TensorClient[];
  /** Payload bytes that this process has written to its sockets. */
  readonly written: { bytes: number };
}

export interface Trouble {
  readonly self: number;
  readonly peer: number;
  readonly end: 'out' | 'in';
  readonly refusal: Refusal | undefined;
}

/** Connects processes with real sockets. `report` is called for every connection that ends. */
export async function connectProcesses(
  processes: readonly Process[],
  over: 'unix' | 'ws',
  generation: number,
  report: (trouble: Trouble) => void,
  /** Generation that the connecting process names in its handshake. */
  clientGeneration: number = generation,
): Promise<Node[]> {
  const offers: { host: string; port: number; unixPath?: string }[] = [];
  const nodes: Node[] = [];
  for (const process of processes) {
    const { self } = process.hosting;
    const written = { bytes: 0 };
    const unixPath = over === 'unix' ? join(tmpdir(), `pod-${randomUUID()}.sock`) : undefined;
    const server = await listenTensors({
      ...{ token, host: '127.0.0.1', port: 0 },
      ...(unixPath === undefined ? {} : { unixPath }),
      admit: (hello) =>
        hello.generation === generation
          ? undefined
          : { code: 'generation', text: `generation ${hello.generation}` },
      open(hello, wire) {
        const write = wire.write;
        wire.write = (head, payload) => {
          written.bytes += payload?.length ?? 0;
          return write(head, payload);
        };
        return process.pump.openOut(hello.from, wire);
      },
      drained: (hello, wire) => process.pump.drained(hello.from, wire),
      closed: (hello, refusal) => report({ self, peer: hello.from, end: 'out', refusal }),
      turnedAway: (refusal) => report({ self, peer: -1, end: 'out', refusal }),
    });
    const offer = { host: '127.0.0.1', port: server.port };
    offers[self] = unixPath === undefined ? offer : { ...offer, unixPath };
    nodes.push({ process, server, clients: [], written });
  }
  for (const { process, clients } of nodes) {
    const { self } = process.hosting;
    for (const peer of process.pump.peers.in) {
      const offer = offers[peer];
      if (offer === undefined) throw new Error(`no offer of process ${peer}`);
      clients.push(
        connectTensors({
          token,
          offer,
          hello: { channel: 'tensor', from: self, to: peer, generation: clientGeneration },
          open: (wire) => process.pump.openIn(peer, wire),
          closed: (refusal) => report({ self, peer, end: 'in', refusal }),
        }),
      );
    }
    process.pump.start();
  }
  return nodes;
}

export async function closeNodes(nodes: readonly Node[]): Promise<void> {
  for (const { process, clients } of nodes) {
    process.pump.stop();
    for (const client of clients) client.close();
  }
  await Promise.all(nodes.map(({ server }) => server.close()));
  for (const { process } of nodes) process.pump.close();
}

/**
 * Lets workers and sockets run alternately. Ends when every worker has finished its all-reduce, or
 * when `stop` returns true.
 */
export async function driveProcesses(
  processes: readonly Process[],
  stop: () => boolean = () => false,
): Promise<void> {
  const all = processes.flatMap(({ workers }) => [...workers.values()]);
  for (const worker of all) if (worker.isDone(0)) worker.start(0);
  while (!all.every((worker) => worker.isDone(0)) && !stop()) {
    for (const { pump } of processes) pump.poke();
    await turn();
  }
}

/**
 * Returns the value of `processOf` in {@link Hosting}, for a pod in which process i hosts worker i
 * and no other.
 */
export function oneEach(torus: Torus): number[] {
  return Array.from({ length: torus.workers }, (_, worker) => worker);
}
