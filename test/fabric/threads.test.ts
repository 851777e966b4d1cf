import { Worker } from 'node:worker_threads';
import { afterEach, describe, expect, it } from 'vitest';
import { abortFabric } from '../../src/fabric/doorbell.ts';
import { layOutFabric, resetFabric } from '../../src/fabric/fabric-memory.ts';
import { serialSum } from '../../src/fabric/serial-sum.ts';
import type { Torus } from '../../src/fabric/torus.ts';
import { chipCount, chipsOf, flatTorus, podTorus } from '../../src/fabric/torus.ts';
import { bits, makeVectors } from './slice.ts';

interface Answer {
  readonly kind: 'done' | 'failed';
  readonly code?: string;
  readonly message?: string;
}

/**
 * A thread for each worker. A call of `go` starts the all-reduces of all threads. `answers`
 * resolves when all threads have answered.
 */
interface Threads {
  readonly memory: WebAssembly.Memory;
  readonly layout: ReturnType<typeof layOutFabric>;
  go(): void;
  readonly answers: Promise<readonly Answer[]>;
  vector(bucket: number, worker: number, index: number): Float32Array;
}

const lengths = [100_003, 17, 5000];
const running = new Set<Worker>();
afterEach(async () => {
  await Promise.all([...running].map((worker) => worker.terminate()));
  running.clear();
});

async function makeThreads(
  torus: Torus,
  options: { runs?: number; deadlineMs: number; roles?: Record<number, 'stall' | 'absent'> },
): Promise<Threads> {
  const { runs = 1, deadlineMs, roles = {} } = options;
  const layout = layOutFabric(torus, 1024);
  const chips = chipCount(torus) / torus.workers;
  const starts: number[] = [];
  let end = layout.base + layout.bytes;
  for (const length of lengths) {
    starts.push(end);
    end += length * 4 * chipCount(torus);
  }
  const pages = Math.ceil(end / 65536);
  const memory = new WebAssembly.Memory({ initial: pages, maximum: 65536, shared: true });
  resetFabric(memory, layout);
  const address = (bucket: number, worker: number, index: number): number =>
    (starts[bucket] ?? 0) + (worker * chips + index) * (lengths[bucket] ?? 0) * 4;
  const present = Array.from({ length: torus.workers }, (_, worker) => worker).filter(
    (worker) => roles[worker] !== 'absent',
  );
  const threads = present.map((worker) => {
    const buckets = lengths.map((elements, bucket) => ({
      address: address(bucket, worker, 0),
      stride: elements * 4,
      elements,
    }));
    const role = roles[worker];
    const thread = new Worker(new URL('./slice.worker.mjs', import.meta.url), {
      workerData: { torus, worker, memory, layout, buckets, runs, role, deadlineMs },
    });
    running.add(thread);
    return { thread, role };
  });
  await Promise.all(threads.map(({ thread }) => once(thread)));
  return {
    memory,
    layout,
    go: () => {
      for (const { thread } of threads) thread.postMessage('go');
    },
    answers: Promise.all(
      threads
        .filter(({ role }) => role === undefined)
        .map(({ thread }) => once(thread) as Promise<Answer>),
    ),
    vector: (bucket, worker, index) =>
      new Float32Array(memory.buffer, address(bucket, worker, index), lengths[bucket]),
  };
}

function once(thread: Worker): Promise<unknown> {
  return new Promise((resolve, reject) => {
    thread.once('message', resolve);
    thread.once('error', reject);
  });
}

describe('all-reduce between threads', () => {
  it.each([
    ['8 chips', flatTorus(4, 2)],
    ['8 Cloud TPUs', podTorus({ columns: 4, rows: 2 })],
  ])('of %s equals the serial sum bit for bit', async (_, torus) => {
    const threads = await makeThreads(torus, { deadlineMs: 600_000 });
    const sums = lengths.map((length, bucket) => {
      const vectors = makeVectors(torus, length, bucket);
      for (let worker = 0; worker < torus.workers; worker++) {
        for (const [index, chip] of chipsOf(torus, worker).entries()) {
          threads.vector(bucket, worker, index).set(vectors[chip] ?? []);
        }
      }
      return bits(serialSum(torus, vectors));
    });
    threads.go();
    expect(await threads.answers).toEqual(Array(8).fill({ kind: 'done' }));
    for (let worker = 0; worker < torus.workers; worker++) {
      for (const [bucket, sum] of sums.entries()) {
        const found = bits(threads.vector(bucket, worker, 0));
        const wrong = found.findIndex((word, i) => word !== sum[i]);
        expect({ worker, bucket, wrong }).toEqual({ worker, bucket, wrong: -1 });
      }
    }
  });

  it('never loses a wake-up in 40 runs', async () => {
    const threads = await makeThreads(flatTorus(4, 2), { runs: 40, deadlineMs: 600_000 });
    threads.go();
    expect(await threads.answers).toEqual(Array(8).fill({ kind: 'done' }));
  });

  it.each(['stall', 'absent'] as const)('names a worker that is silent: %s', async (role) => {
    const torus = podTorus({ columns: 4, rows: 2 });
    const threads = await makeThreads(torus, { deadlineMs: 1500, roles: { 5: role } });
    threads.go();
    for (const answer of await threads.answers) {
      expect(answer).toMatchObject({ kind: 'failed', code: 'link-timeout' });
      expect(answer.message).toMatch(
        /silent: Cloud TPU 5; waits for .* on link chip\(\d,\d\)[+-][xy]/,
      );
    }
  });

  it('ends every wait at once after an abort by the master', async () => {
    const torus = podTorus({ columns: 4, rows: 2 });
    const threads = await makeThreads(torus, { deadlineMs: 600_000, roles: { 5: 'absent' } });
    threads.go();
    abortFabric(threads.memory, threads.layout);
    for (const answer of await threads.answers) {
      expect(answer).toMatchObject({ kind: 'failed', code: 'link-timeout' });
      expect(answer.message).toMatch(/ended by the master$/);
    }
  });
});
