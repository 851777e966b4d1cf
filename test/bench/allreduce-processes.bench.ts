import { type ChildProcess, fork } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer, Socket, type SocketConstructorOpts } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { TensorOffer } from '../../cluster/net/tensor-socket.ts';
import { linkBytesFormula } from '../../src/fabric/link-bytes.ts';
import type { Direction, Torus } from '../../src/fabric/torus.ts';
import { flatTorus, linkCount } from '../../src/fabric/torus.ts';
import type { RankAnswer, RankOrder } from './allreduce-processes.worker.ts';
import { type Gloo, startGloo } from './gloo.ts';
import type { BenchRow } from './row.ts';

/**
 * Number of f32 elements in the vector of each chip: 25 MiB. The torus has 4×2 chips, and each chip
 * has a process of its own.
 */
const elements = (25 * 2 ** 20) / 4;
const torus: Torus = flatTorus(4, 2);
const runs = 120;
/**
 * Number of warm-up runs, which do not count. There are many, because one run calls most hot
 * functions only a few hundred times. The engine compiles these functions only after more calls.
 */
const warmUps = 50;

/**
 * A transport to measure: the kind of its sockets, and whether payloads go through shared memory.
 */
interface Way {
  readonly name: string;
  readonly over: 'unix' | 'ws';
  readonly shares: boolean;
  /** Time, in ms, that the project promises for an all-reduce on two processor cores [issue 3]. */
  readonly promisedMs: number;
}

const ways: readonly Way[] = [
  { name: 'unix', over: 'unix', shares: true, promisedMs: 120 },
  { name: 'unix, nothing shared', over: 'unix', shares: false, promisedMs: 120 },
  { name: 'ws', over: 'ws', shares: false, promisedMs: 200 },
];

/**
 * Times an all-reduce of 25 MiB over eight processes, for each transport. The time is compared with
 * two figures: the promised time, and the time to copy the same bytes or to send them over bare
 * sockets. If `python` has torch, a third figure is the time of gloo, torch's library for
 * all-reduces. Runs of gloo then alternate with runs of the emulator.
 */
export async function run(python: string): Promise<BenchRow[]> {
  const gloo = await startGloo(python, torus.workers, elements);
  if (gloo === undefined) console.error(`${python} has no torch: nothing is measured beside gloo`);
  const folder = mkdtempSync(join(tmpdir(), 'pod-bench-'));
  try {
    const rows: BenchRow[] = [];
    for (const way of ways) {
      const place = join(folder, way.name);
      mkdirSync(place);
      rows.push(...(await measure(way, place, gloo)));
    }
    return rows;
  } finally {
    gloo?.close();
    rmSync(folder, { recursive: true });
  }
}

async function measure(way: Way, folder: string, gloo: Gloo | undefined): Promise<BenchRow[]> {
  const { over } = way;
  const ran = await runProcesses(way, folder, gloo);
  const value = median(ran.ours);
  const name = `all-reduce 25 MiB, 8 processes, ${way.name}`;
  const row = { name, value, unit: 'ms', higherIsBetter: false };
  return [
    { ...row, limit: way.promisedMs, limitName: 'promised' },
    { ...row, ...(way.shares ? copyLimit() : await socketLimit(over, folder)) },
    ...(gloo
      ? [{ ...row, limit: median(ran.gloo), limitName: `gloo in turn, torch ${gloo.version}` }]
      : []),
  ];
}

type Limit = Pick<BenchRow, 'limit' | 'limitName'>;

async function socketLimit(over: 'unix' | 'ws', folder: string): Promise<Limit> {
  const isUnix = over === 'unix';
  const bandwidth = await socketBandwidth(isUnix ? join(folder, 'bare.sock') : undefined);
  const socket = isUnix ? 'a unix socket' : 'TCP on loopback';
  return limitAt(bandwidth, `every byte through ${socket}`);
}

/**
 * Best possible time of an all-reduce through shared memory. It assumes that each payload is copied
 * once to its receiver, and that two processor cores share this work.
 */
function copyLimit(): Limit {
  const bytes = 4 * elements;
  const [from, to] = [Buffer.alloc(bytes, 1), Buffer.alloc(bytes, 2)];
  const rates = Array.from({ length: 20 }, () => {
    const start = performance.now();
    from.copy(to);
    return (1000 * bytes) / (performance.now() - start);
  });
  return limitAt(2 * median(rates), 'every byte copied once by two cores');
}

function limitAt(bandwidth: number, what: string): Limit {
  const limitName = `${what} at ${(bandwidth / 1e9).toFixed(1)} GB/s`;
  return { limit: (1000 * totalBytes()) / bandwidth, limitName };
}

/** Payload bytes of one all-reduce on all links together. */
function totalBytes(): number {
  let total = 0;
  for (let link = 0; link < linkCount(torus); link++) {
    total += linkBytesFormula(torus, elements, link >> 2, (link & 3) as Direction);
  }
  return total;
}

/**
 * Returns the times, in ms, of all runs that count: those of the emulator (`ours`) and those of
 * gloo. All processes of a run start together at a barrier. The time of the run is that of the
 * slowest process. The benchmarks of gloo and OpenMPI measure in the same way.
 */
async function runProcesses(
  { over, shares }: Way,
  folder: string,
  gloo: Gloo | undefined,
): Promise<{ readonly ours: number[]; readonly gloo: number[] }> {
  const ranks = Array.from({ length: torus.workers }, () => {
    return fork(fileURLToPath(new URL('./allreduce-processes.worker.js', import.meta.url)));
  });
  try {
    const offers = await ask(ranks, 'offer', (self) => ({
      kind: 'listen',
      task: {
        ...{ width: torus.width, height: torus.height, self, elements, shares },
        unixPath: over === 'unix' ? join(folder, `${self}.sock`) : undefined,
      },
    }));
    const list: TensorOffer[] = offers.map(({ offer }) => offer);
    await ask(ranks, 'connected', () => ({ kind: 'connect', offers: list }));
    const ms = { ours: [] as number[], gloo: [] as number[] };
    for (let run = 0; run < runs; run++) {
      const checked = run === 0 || run === runs - 1;
      const ran = await ask(ranks, 'ran', () => ({ kind: 'run', checked }));
      // Warm-up runs do not count. The first and the last run, which are checked, do not count
      // either. Before a checked run each process fills its vector again, so the processes start
      // late, by unequal times.
      if (checked || run < warmUps) continue;
      ms.ours.push(Math.max(...ran.map((it) => it.ms)));
      if (gloo) ms.gloo.push(await gloo.run());
    }
    return ms;
  } finally {
    for (const rank of ranks) rank.disconnect();
  }
}

type Answer<K> = Extract<RankAnswer, { readonly kind: K }>;

/** Sends every process an order and waits for all answers, which must have the given kind. */
function ask<K extends RankAnswer['kind']>(
  ranks: readonly ChildProcess[],
  kind: K,
  order: (self: number) => RankOrder,
): Promise<Answer<K>[]> {
  return Promise.all(
    ranks.map(
      (rank, self) =>
        new Promise<Answer<K>>((resolve, reject) => {
          const exited = (): void => reject(new Error(`process ${self} exited`));
          rank.once('exit', exited);
          rank.once('message', (answer: RankAnswer) => {
            rank.off('exit', exited);
            if (answer.kind === kind) resolve(answer as Answer<K>);
            else reject(new Error(`process ${self}: ${answer.kind}`));
          });
          rank.send(order(self));
        }),
    ),
  );
}

const chunkBytes = 128 * 1024;
const chunks = 8000;

/**
 * Returns the median rate, in bytes per second, at which this process receives bytes from another
 * process over a bare socket, in chunks of 128 KiB. `path` is the path of a unix socket; if it is
 * undefined, the socket is TCP on loopback.
 */
async function socketBandwidth(path: string | undefined): Promise<number> {
  const rates: number[] = [];
  for (let run = 0; run < 5; run++) {
    rates.push(await receiveOnce(path === undefined ? path : `${path}.${run}`));
  }
  return median(rates);
}

function receiveOnce(path: string | undefined): Promise<number> {
  return new Promise((resolve, reject) => {
    const program = fileURLToPath(import.meta.url);
    const sender = fork(program, [path ?? '0', 'send-bytes'], { stdio: 'inherit' });
    sender.once('error', reject);
    sender.once('message', (where: string | number) => {
      let total = 0;
      let start = 0;
      const buffer = new Uint8Array(chunkBytes);
      const took = (count: number): boolean => {
        if (total === 0) start = performance.now();
        total += count;
        return true;
      };
      // The socket reads into a buffer that this function gives it, so that Node allocates nothing.
      // The links of the emulator read in the same way.
      const options: ReadInto = { onread: { buffer: () => buffer, callback: took } };
      const socket = new Socket(options);
      socket.on('error', reject);
      socket.on('end', () => {
        resolve((1000 * total) / (performance.now() - start));
        socket.destroy();
      });
      if (typeof where === 'number') socket.connect({ host: '127.0.0.1', port: where });
      else socket.connect({ path: where });
    });
  });
}

/** The option `onread` of sockets, which Node's types leave out. [Node, `net.Socket`] */
type ReadInto = SocketConstructorOpts & {
  readonly onread: {
    readonly buffer: () => Uint8Array;
    readonly callback: (count: number) => boolean;
  };
};

/**
 * Program of the child process of {@link socketBandwidth}. Reports the address of its socket to the
 * parent, and sends bytes to each client.
 */
function sendBytes(where: string): void {
  const chunk = Buffer.alloc(chunkBytes);
  const server = createServer((socket: Socket) => {
    let sent = 0;
    const send = (): void => {
      while (sent < chunks) {
        sent++;
        if (!socket.write(chunk)) return;
      }
      socket.end(() => process.exit(0));
    };
    socket.on('drain', send);
    send();
  });
  server.listen(where === '0' ? { host: '127.0.0.1', port: 0 } : { path: where }, () => {
    const address = server.address();
    process.send?.(typeof address === 'object' ? address?.port : address);
  });
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
}

if (process.argv[3] === 'send-bytes') sendBytes(process.argv[2] ?? '');
