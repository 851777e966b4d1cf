import { performance } from 'node:perf_hooks';
import { fileURLToPath } from 'node:url';
import { MessageChannel, type MessagePort } from 'node:worker_threads';
import { Piscina } from 'piscina';
import { enableRelaxedSimd } from '../../src/chip/engine.ts';
import { InfeedQueue } from '../../src/data/infeed.ts';
import { abortFabric } from '../../src/fabric/doorbell.ts';
import { resetFabric, sentBytes } from '../../src/fabric/fabric-memory.ts';
import { linkName, podTorus, type Topology, type Torus } from '../../src/fabric/torus.ts';
import { assert, at, unreachable } from '../../src/numerics/assert.ts';
import { PodError } from '../../src/numerics/error.ts';
import {
  initialMaster,
  isOver,
  type MasterAction,
  type MasterEvent,
  type MasterOptions,
  type MasterState,
  master,
} from '../../src/pod/master.ts';
import { checkFromWorker } from '../../src/pod/messages.ts';
import type { Commit, Pod, PodOptions, Program } from '../../src/pod/pod.ts';
import type { ThreadFault } from './fault.ts';
import { datasetOf, planOf } from './feed.ts';
import { controlWords, infeedGeometry, type Layout, layOut, pageBytes } from './layout.ts';
import type { LoaderTask, WorkerTask } from './task.ts';

/** A slice whose workers are threads of this process. */
export interface ThreadPodOptions extends PodOptions {
  /** For tests: what breaks, and whether fused multiply-adds are used where the engine has them. */
  readonly fault?: ThreadFault;
  readonly relaxed?: boolean;
}

/** For tests: ends the thread of a Cloud TPU from outside. */
export interface ThreadPod extends Pod {
  kill(tpu: number): void;
}

/** Opens a slice in this process: a thread for each Cloud TPU, and one for each feed. */
export async function openThreadPod(options: ThreadPodOptions): Promise<ThreadPod> {
  checkOptions(options);
  const torus = podTorus(options.topology);
  const layout = layOut(
    torus,
    options.programs.map((program) => program.executable),
  );
  const pod = new Threads(options, torus, layout, allocate(layout.bytes));
  await pod.start();
  return pod;
}

/** How often heartbeats are sampled, in ms. */
const samplePeriodMs = 100;

/** Limits for each fidelity in ms; a register-level array takes its time over one instruction. */
const limits = {
  fast: { silenceMsLimit: 1200, waitMsLimit: 60_000 },
  systolic: { silenceMsLimit: 60_000, waitMsLimit: 1_800_000 },
} as const;

function masterOptions({ topology, mxu }: PodOptions): MasterOptions {
  return {
    names: names(topology),
    startMsLimit: 60_000,
    silenceMsLimit: limits[mxu].silenceMsLimit,
    silenceFactor: 4,
    sampleMsLimit: 2.5 * samplePeriodMs,
  };
}

/** What awaits the end of the step (or of the start) that is under way. */
interface Waiter {
  readonly sinceMs: number;
  resolve(commit: Commit | undefined): void;
  reject(error: PodError): void;
}

/** Drives the master's state machine with the messages and heartbeats of the threads. */
class Threads implements ThreadPod {
  readonly topology: Topology;
  readonly memoryBytes: number;
  readonly #options: ThreadPodOptions;
  readonly #programs: readonly Program[];
  readonly #torus: Torus;
  readonly #layout: Layout;
  readonly #memory: WebAssembly.Memory;
  readonly #words: Int32Array;
  readonly #bytes: Uint8Array;
  readonly #ports: MessagePort[] = [];
  readonly #kills: AbortController[] = [];
  readonly #pools: Piscina[] = [];
  readonly #steps: number[];
  /** By program: the parameters it takes over have changed since it did. */
  readonly #stale: boolean[];
  /** By Cloud TPU: samples in which it was waiting for its infeed, which is no silence. */
  readonly #waits: number[];
  #state: MasterState;
  #waiter: Waiter | undefined;
  #sampler: NodeJS.Timeout | undefined;
  #failure: PodError | undefined;
  #closing: Promise<void> | undefined;

  constructor(options: ThreadPodOptions, torus: Torus, layout: Layout, memory: WebAssembly.Memory) {
    this.topology = options.topology;
    this.memoryBytes = layout.bytes;
    this.#options = options;
    this.#programs = options.programs;
    this.#torus = torus;
    this.#layout = layout;
    this.#memory = memory;
    this.#words = new Int32Array(memory.buffer);
    this.#bytes = new Uint8Array(memory.buffer);
    this.#steps = options.programs.map(() => 0);
    this.#stale = options.programs.map(() => true);
    this.#waits = layout.tpus.map(() => 0);
    this.#state = initialMaster(masterOptions(options), performance.now());
  }

  /** Starts all threads and waits until all have loaded. */
  async start(): Promise<void> {
    resetFabric(this.#memory, this.#layout.fabric);
    const started = this.#await();
    this.#sampler = setInterval(() => this.#sample(), samplePeriodMs);
    this.#startWorkers();
    this.#startLoaders();
    await started;
  }

  async step(program: number): Promise<Commit> {
    this.#checkUsable();
    const takesParameters = at(this.#programs, program).parametersFrom !== undefined;
    const step = at(this.#steps, program);
    const takeParameters = takesParameters && at(this.#stale, program);
    const committed = this.#await();
    this.#steps[program] = step + 1;
    this.#give({ kind: 'begin-step', order: { program, step, takeParameters } });
    const commit = await committed;
    assert(commit !== undefined, `step ${step} ended without a commit`);
    this.#stale[program] = false;
    this.#parametersChanged(program);
    return commit;
  }

  async readParameters(program: number): Promise<readonly Uint8Array[]> {
    this.#checkUsable();
    const { executable } = at(this.#programs, program);
    return executable.parameters.map((_, index) => {
      const { start, end } = this.#parameter(0, program, index);
      return this.#bytes.slice(start, end);
    });
  }

  async writeParameters(program: number, values: readonly Uint8Array[]): Promise<void> {
    this.#checkUsable();
    for (let tpu = 0; tpu < this.#layout.tpus.length; tpu++) {
      values.forEach((value, index) => {
        const { start, end, name } = this.#parameter(tpu, program, index);
        assert(value.length === end - start, `${name}: ${value.length} bytes, not ${end - start}`);
        this.#bytes.set(value, start);
      });
    }
    this.#stale[program] = false;
    this.#parametersChanged(program);
  }

  linkBytes(): Readonly<Record<string, number>> {
    const counts = sentBytes(this.#memory, this.#layout.fabric);
    return Object.fromEntries(
      Array.from(counts, (bytes, link) => [linkName(this.#torus, link), bytes]),
    );
  }

  kill(tpu: number): void {
    at(this.#kills, tpu).abort();
  }

  close(): Promise<void> {
    this.#closing ??= this.#shutDown();
    return this.#closing;
  }

  // -------------------------------------------------------------------------------------- threads

  #startWorkers(): void {
    const count = this.#layout.tpus.length;
    const pool = this.#pool('worker', count);
    const { topology, mxu, fault } = this.#options;
    const relaxed = this.#options.relaxed !== false && enableRelaxedSimd();
    for (let tpu = 0; tpu < count; tpu++) {
      const { port1, port2: port } = new MessageChannel();
      const kill = new AbortController();
      this.#ports.push(port1);
      this.#kills.push(kill);
      port1.on('message', (value: unknown) => this.#receive(tpu, value));
      const task: WorkerTask = {
        tpu,
        topology,
        programs: this.#programs,
        mxu,
        relaxed,
        memory: this.#memory,
        layout: this.#layout,
        port,
        waitMsLimit: limits[mxu].waitMsLimit,
        fault,
      };
      pool.run(task, { transferList: [port], signal: kill.signal }).then(
        (lastWords: unknown) => this.#give(endOf(tpu, lastWords)),
        (error: unknown) => this.#give({ kind: 'exited', tpu, reason: messageOf(error) }),
      );
    }
  }

  #startLoaders(): void {
    const feeds = this.#programs.flatMap(({ feed }, program) =>
      feed === undefined ? [] : [{ program, feed }],
    );
    if (feeds.length === 0) return;
    const pool = this.#pool('loader', feeds.length);
    for (const { program, feed } of feeds) {
      const task: LoaderTask = {
        program,
        feed,
        programs: this.#programs,
        memory: this.#memory,
        layout: this.#layout,
      };
      const failed = (error: unknown): void => {
        this.#give(failureOf('the data loader', error));
      };
      pool.run(task).then(() => failed('it ended by itself'), failed);
    }
  }

  /** A thread for each task for as long as the pod is open: nothing is queued, nobody is idle. */
  #pool(file: 'worker' | 'loader', threads: number): Piscina {
    const pool = new Piscina({
      filename: compiledPath(file),
      minThreads: threads,
      maxThreads: threads,
      concurrentTasksPerWorker: 1,
      idleTimeout: Number.POSITIVE_INFINITY,
      atomics: 'disabled',
    });
    pool.on('error', (error: unknown) => {
      this.#give(failureOf(`a ${file} thread without a task`, error));
    });
    this.#pools.push(pool);
    return pool;
  }

  async #shutDown(): Promise<void> {
    clearInterval(this.#sampler);
    this.#give({ kind: 'stop' });
    this.#endWaits();
    for (const port of this.#ports) port.close();
    await Promise.all(this.#pools.map((pool) => pool.destroy()));
  }

  /** Ends every wait in shared memory: of workers for each other, and between them and loaders. */
  #endWaits(): void {
    Atomics.store(this.#words, this.#layout.stop / 4, 1);
    abortFabric(this.#memory, this.#layout.fabric);
    this.#programs.forEach(({ executable }, program) => {
      if (executable.infeed.length === 0) return;
      this.#layout.tpus.forEach(({ infeeds }, tpu) => {
        const place = at(infeeds, program);
        new InfeedQueue(this.#memory.buffer, place, infeedGeometry(executable, tpu)).stop();
      });
    });
  }

  // --------------------------------------------------------------------------------- state machine

  #receive(tpu: number, value: unknown): void {
    this.#give(eventOf(tpu, value));
  }

  #sample(): void {
    const pulses = this.#layout.tpus.map(({ control }, tpu) => {
      const line = control / 4;
      const waits = Atomics.load(this.#words, line + controlWords.awaitsInfeed);
      this.#waits[tpu] = at(this.#waits, tpu) + waits;
      return Atomics.load(this.#words, line + controlWords.beats) + at(this.#waits, tpu);
    });
    this.#give({ kind: 'sample', pulses });
  }

  #give(event: MasterEvent): void {
    if (isOver(this.#state)) return;
    const { state, actions } = master(this.#state, event, performance.now());
    this.#state = state;
    for (const action of actions) this.#perform(action);
  }

  #perform(action: MasterAction): void {
    switch (action.kind) {
      case 'send':
        at(this.#ports, action.tpu).postMessage(action.message);
        break;
      case 'ready':
        this.#settle(undefined);
        break;
      case 'commit':
        this.#settle(this.#commitOf(action));
        break;
      case 'refused':
        break;
      case 'abort':
        this.#endWaits();
        break;
      case 'failed':
        this.#fail(new PodError(action.code, action.message));
        break;
      default:
        unreachable(action);
    }
  }

  #commitOf({ order, digest, reports }: MasterAction & { kind: 'commit' }): Commit {
    const wallMs = performance.now() - (this.#waiter?.sinceMs ?? 0);
    return { program: order.program, step: order.step, digest, reports, wallMs };
  }

  #await(): Promise<Commit | undefined> {
    assert(this.#waiter === undefined, 'one step at a time');
    return new Promise((resolve, reject) => {
      this.#waiter = { sinceMs: performance.now(), resolve, reject };
    });
  }

  #settle(commit: Commit | undefined): void {
    const waiter = this.#waiter;
    this.#waiter = undefined;
    waiter?.resolve(commit);
  }

  #fail(error: PodError): void {
    this.#failure = error;
    const waiter = this.#waiter;
    this.#waiter = undefined;
    void this.close();
    waiter?.reject(error);
  }

  #checkUsable(): void {
    if (this.#failure !== undefined) throw this.#failure;
    assert(this.#state.phase.kind === 'ready', `the pod is ${this.#state.phase.kind}, not ready`);
  }

  // ------------------------------------------------------------------------------------ parameters

  #parametersChanged(program: number): void {
    this.#programs.forEach(({ parametersFrom }, other) => {
      if (parametersFrom === program) this.#stale[other] = true;
    });
  }

  #parameter(tpu: number, program: number, index: number): Range {
    const { executable } = at(this.#programs, program);
    const { offset, bytes, name } = at(executable.buffers, at(executable.parameters, index));
    const start = at(at(this.#layout.tpus, tpu).arenas, program) + offset;
    return { start, end: start + bytes, name };
  }
}

/** Bytes of a parameter in the shared memory. */
interface Range {
  readonly start: number;
  readonly end: number;
  readonly name: string;
}

function checkOptions({ programs, topology }: PodOptions): void {
  assert(programs.length > 0, 'a pod runs at least one program');
  programs.forEach(({ executable, feed, parametersFrom, digested }, number) => {
    const { name, parameters } = executable;
    assert(digested <= parameters.length, `${name}: digest of ${digested} of ${parameters.length}`);
    assert(
      (feed === undefined) === (executable.infeed.length === 0),
      `${name}: infeed and no feed`,
    );
    assert(parametersFrom !== number, `${name}: takes parameters from itself`);
    if (feed === undefined) return;
    const { size } = datasetOf(feed);
    const plan = planOf(feed, size, topology.columns * topology.rows, executable.cores);
    const samples = infeedGeometry(executable, 0).samples * plan.tpus;
    assert(samples === plan.globalBatch, `${name}: takes ${samples} samples a step`);
  });
}

function allocate(bytes: number): WebAssembly.Memory {
  const pages = bytes / pageBytes;
  try {
    return new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
  } catch (error) {
    const mib = Math.ceil(bytes / 2 ** 20);
    throw new PodError('out-of-memory', `this machine does not give ${mib} MiB of memory`, error);
  }
}

function names({ columns, rows }: Topology): string[] {
  return Array.from({ length: columns * rows }, (_, tpu) => {
    return `Cloud TPU ${tpu} (x ${tpu % columns}, y ${Math.floor(tpu / columns)})`;
  });
}

/** The compiled entry file of a thread: beside this file, or in `dist` when this is a source. */
function compiledPath(file: 'worker' | 'loader'): string {
  const compiled = import.meta.url.endsWith('.ts')
    ? `../../dist/cluster/threads/${file}.js`
    : `./${file}.js`;
  return fileURLToPath(new URL(compiled, import.meta.url));
}

function failureOf(who: string, error: unknown): MasterEvent {
  return { kind: 'service-failed', who, code: codeOf(error), message: messageOf(error) };
}

/** A thread that ended: what it said last, or that it said nothing. */
function endOf(tpu: number, lastWords: unknown): MasterEvent {
  if (lastWords !== null) return eventOf(tpu, lastWords);
  return { kind: 'exited', tpu, reason: 'its thread ended by itself' };
}

/** What arrived, or that it is not what a worker sends. */
function eventOf(tpu: number, value: unknown): MasterEvent {
  try {
    return { kind: 'message', message: checkFromWorker(value) };
  } catch (error) {
    return { kind: 'exited', tpu, reason: messageOf(error) };
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Errors lose their class between threads, and keep their own fields. */
function codeOf(error: unknown): string | null {
  const code = error instanceof Error && 'code' in error ? error.code : null;
  return typeof code === 'string' ? code : null;
}
