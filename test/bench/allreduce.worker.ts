import { parentPort, workerData } from 'node:worker_threads';
import { Collectives } from '../../src/fabric/collectives.ts';
import { Doorbell } from '../../src/fabric/doorbell.ts';
import type { FabricLayout } from '../../src/fabric/fabric-memory.ts';
import { sumKernels } from '../../src/fabric/kernels/sum.ts';
import { memoryLinks } from '../../src/fabric/memory-link.ts';
import { serialElement } from '../../src/fabric/serial-sum.ts';
import type { Torus } from '../../src/fabric/torus.ts';
import { chipsOf } from '../../src/fabric/torus.ts';

/** Task of one worker of the benchmark. */
export interface AllReduceTask {
  readonly torus: Torus;
  readonly worker: number;
  readonly memory: WebAssembly.Memory;
  readonly layout: FabricLayout;
  /** Byte address of the vector of the worker's chip 0. Vectors lie `stride` bytes apart. */
  readonly address: number;
  readonly stride: number;
  readonly elements: number;
  readonly runs: number;
  /**
   * Shared words of the barrier. Word 0: number of workers that have arrived. Word 1: number of
   * times that all workers have passed the barrier.
   */
  readonly barrier: Int32Array;
}

/** Measurements of one worker; the benchmark uses those of worker 0. */
export interface AllReduceResult {
  /** Time of each run that counts, in ms, from the start until all workers have ended. */
  readonly ms: readonly number[];
  /** Bytes copied per second by two threads. */
  readonly copyBandwidth: number;
}

const task = workerData as AllReduceTask;
const copyBytes = 64 * 2 ** 20;
const copyThreads = 2;
/** Number of warm-up runs, which are not timed: the engine compiles the hot functions in them. */
const warmUpRuns = 7;
const deadlineMs = 20_000;

parentPort?.postMessage(run());

function run(): AllReduceResult {
  const { torus, worker, memory, layout, address, stride, elements } = task;
  const doorbell = new Doorbell(memory, layout, worker);
  const allReduce = new Collectives({
    ...{ torus, worker, doorbell, generation: 1 },
    kernels: sumKernels(memory),
    links: memoryLinks(memory, layout, torus, doorbell),
    collectives: [{ address, stride, elements }],
    now: () => performance.now(),
  });
  const copyBandwidth = measureCopy();
  const ms: number[] = [];
  for (let run = 0; run < task.runs; run++) {
    const checked = run === 0 || run === task.runs - 1;
    if (checked) fill();
    meet();
    const start = performance.now();
    allReduce.start(0);
    allReduce.finish(0, start + deadlineMs);
    meet();
    ms.push(performance.now() - start);
    if (checked) check();
  }
  return { ms: ms.slice(warmUpRuns), copyBandwidth };
}

/**
 * Returns element `element` of a chip's vector. The values are such that a sum over chips depends
 * on the order of the additions.
 */
function value(chip: number, element: number): number {
  const hash = Math.imul(element + 1, 2654435761) ^ Math.imul(chip + 1, 40503);
  return Math.fround(hash * 2 ** -31);
}

function fill(): void {
  for (const [index, chip] of chipsOf(task.torus, task.worker).entries()) {
    const start = task.address + index * task.stride;
    const vector = new Float32Array(task.memory.buffer, start, task.elements);
    for (let i = 0; i < vector.length; i++) vector[i] = value(chip, i);
  }
}

function check(): void {
  const sum = new Float32Array(task.memory.buffer, task.address, task.elements);
  for (let i = task.worker; i < sum.length; i += 9973) {
    const expected = serialElement(task.torus, sum.length, i, (chip) => value(chip, i));
    if (sum[i] !== expected) throw new Error(`element ${i}: ${sum[i]}, expected ${expected}`);
  }
}

/**
 * Returns the number of bytes per second that two threads copy together, as the median of nine
 * measurements. Both copy at the same time, each from one buffer of its own to another.
 */
function measureCopy(): number {
  const source = new Uint8Array(task.worker < copyThreads ? copyBytes : 0).fill(1);
  const target = new Uint8Array(source.length);
  const rates: number[] = [];
  for (let run = 0; run < 9; run++) {
    meet();
    const start = performance.now();
    target.set(source);
    meet();
    rates.push((copyThreads * copyBytes * 1000) / (performance.now() - start));
  }
  return rates.sort((a, b) => a - b)[4] ?? 0;
}

/** Waits at a barrier until all workers have called `meet`. */
function meet(): void {
  const { barrier, torus } = task;
  const round = Atomics.load(barrier, 1);
  if (Atomics.add(barrier, 0, 1) + 1 === torus.workers) {
    Atomics.store(barrier, 0, 0);
    Atomics.store(barrier, 1, round + 1);
    Atomics.notify(barrier, 1);
    return;
  }
  while (Atomics.load(barrier, 1) === round) Atomics.wait(barrier, 1, round);
}
