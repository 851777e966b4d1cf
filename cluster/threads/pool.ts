import { performance } from 'node:perf_hooks';
import { MessageChannel, type MessagePort } from 'node:worker_threads';
import { enableRelaxedSimd } from '../../src/chip/engine.ts';
import { abortFabric } from '../../src/fabric/doorbell.ts';
import { resetFabric, sentBytes } from '../../src/fabric/fabric-memory.ts';
import { linkName, podTorus, type Topology, type Torus } from '../../src/fabric/torus.ts';
import { assert, at, unreachable } from '../../src/numerics/assert.ts';
import { digest, digestText } from '../../src/numerics/digest.ts';
import { PodError } from '../../src/numerics/error.ts';
import {
  initialMaster,
  isOver,
  type MasterAction,
  type MasterEvent,
  type MasterOptions,
  type MasterState,
  master,
  type Transition,
} from '../../src/pod/master.ts';
import { checkFromWorker } from '../../src/pod/messages.ts';
import type { Commit, Pod, PodOptions, Program, SavedParameters } from '../../src/pod/pod.ts';
import { faultsOf, type ThreadFault } from './fault.ts';
import { datasetOf, planOf } from './feed.ts';
import { Feeds } from './feeds.ts';
import { controlWords, infeedGeometry, type Layout, layOut, pageBytes } from './layout.ts';
import { type Life, startLife } from './life.ts';
import { Parameters } from './parameters.ts';
import type { WorkerTask } from './task.ts';

/** A slice whose workers are threads of this process. */
export interface ThreadPodOptions extends PodOptions {
  /** For tests: what breaks, and whether fused multiply-adds are used where the engine has them. */
  readonly faults?: readonly ThreadFault[];
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

function masterOptions({ topology, mxu, programs, recovery }: PodOptions): MasterOptions {
  return {
    names: names(topology),
    taking: programs.map(({ parametersFrom }) => parametersFrom !== undefined),
    startMsLimit: 60_000,
    silenceMsLimit: limits[mxu].silenceMsLimit,
    silenceFactor: 4,
    sampleMsLimit: 2.5 * samplePeriodMs,
    recovery: {
      policy: recovery ?? 'none',
      graceMsLimit: 10_000,
      lossesPerStepMax: 5,
      lossesPerMinuteMax: 30,
    },
  };
}

/** What awaits the end of the step (or of the start) that is under way. */
interface Waiter {
  readonly sinceMs: number;
  resolve(commit: Commit | undefined): void;
  reject(error: PodError): void;
}

/** The thread of a Cloud TPU, and the messages to and from it. */
interface WorkerLife {
  readonly life: Life;
  readonly port: MessagePort;
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
  readonly #relaxed: boolean;
  readonly #parameters: Parameters;
  readonly #feeds: Feeds;
  /** By Cloud TPU; none while it is being replaced. */
  readonly #workers: (WorkerLife | undefined)[];
  /** By Cloud TPU: threads that it has had. */
  readonly #lives: number[];
  /** Threads that are on their way out. */
  readonly #endings: Set<Promise<void>> = new Set();
  /** By program: what was written last. */
  readonly #written: (SavedParameters | undefined)[];
  /** By program: the parameters it takes over have changed since it did. */
  readonly #stale: boolean[];
  /** By Cloud TPU: samples in which it was waiting for its infeed, which is no silence. */
  readonly #waits: number[];
  /** By link: bytes carried in memberships before. */
  readonly #carried: Float64Array;
  readonly #events: MasterEvent[] = [];
  #state: MasterState;
  #waiter: Waiter | undefined;
  #sampler: NodeJS.Timeout | undefined;
  #failure: PodError | undefined;
  #closing: Promise<void> | undefined;

  constructor(options: ThreadPodOptions, torus: Torus, layout: Layout, memory: WebAssembly.Memory) {
    const { programs, topology } = options;
    this.topology = topology;
    this.memoryBytes = layout.bytes;
    this.#options = options;
    this.#programs = programs;
    this.#torus = torus;
    this.#layout = layout;
    this.#memory = memory;
    this.#words = new Int32Array(memory.buffer);
    this.#relaxed = options.relaxed !== false && enableRelaxedSimd();
    this.#parameters = new Parameters(memory, layout, programs);
    this.#workers = layout.tpus.map(() => undefined);
    this.#lives = layout.tpus.map(() => 0);
    this.#written = programs.map(() => undefined);
    this.#stale = programs.map(() => true);
    this.#waits = layout.tpus.map(() => 0);
    this.#carried = sentBytes(memory, layout.fabric);
    this.#state = initialMaster(masterOptions(options), performance.now(), options.start);
    const failed = (error: unknown): void => this.#give(failureOf('the data loader', error));
    this.#feeds = new Feeds(memory, layout, programs, failed, this.#state.steps);
  }

  /** Starts all threads and waits until all have loaded. */
  async start(): Promise<void> {
    const started = this.#await();
    this.#sampler = setInterval(() => this.#sample(), samplePeriodMs);
    this.#layout.tpus.forEach((_, tpu) => {
      this.#startWorker(tpu);
    });
    await started;
  }

  async step(program: number): Promise<Commit> {
    await this.#untilReady();
    const takesParameters = at(this.#programs, program).parametersFrom !== undefined;
    const step = at(this.#state.told, program);
    const takeParameters = takesParameters && at(this.#stale, program);
    const committed = this.#await();
    this.#give({ kind: 'begin-step', order: { program, step, takeParameters } });
    const commit = await committed;
    assert(commit !== undefined, `step ${step} ended without a commit`);
    this.#stale[program] = false;
    this.#parametersChanged(program);
    return commit;
  }

  async readParameters(program: number): Promise<readonly Uint8Array[]> {
    await this.#untilReady();
    return this.#parameters.read({ tpu: 0, program, steps: at(this.#state.told, program) });
  }

  async writeParameters(program: number, values: readonly Uint8Array[]): Promise<void> {
    const { parametersFrom, executable } = at(this.#programs, program);
    assert(parametersFrom === undefined, `${executable.name} takes its parameters from another`);
    await this.#untilReady();
    const steps = at(this.#state.told, program);
    this.#layout.tpus.forEach((_, tpu) => {
      this.#parameters.write({ tpu, program, steps }, values);
    });
    this.#parametersChanged(program);
    if (!this.#recovers) return;
    const written = this.#parameters.read({ tpu: 0, program, steps });
    this.#written[program] = { steps, values: written };
    const { digested } = at(this.#programs, program);
    this.#give({ kind: 'written', program, digest: digestOf(written.slice(0, digested)) });
  }

  linkBytes(): Readonly<Record<string, number>> {
    const counts = sentBytes(this.#memory, this.#layout.fabric);
    return Object.fromEntries(
      Array.from(counts, (bytes, link) => [
        linkName(this.#torus, link),
        bytes + at(this.#carried, link),
      ]),
    );
  }

  kill(tpu: number): void {
    this.#workers[tpu]?.life.kill();
  }

  close(): Promise<void> {
    this.#closing ??= this.#shutDown();
    return this.#closing;
  }

  get #recovers(): boolean {
    return this.#state.options.recovery.policy !== 'none';
  }

  // -------------------------------------------------------------------------------------- threads

  #startWorker(tpu: number): void {
    const { topology, mxu, faults = [] } = this.#options;
    const { port1, port2: port } = new MessageChannel();
    const life = at(this.#lives, tpu);
    this.#lives[tpu] = life + 1;
    const task: WorkerTask = {
      tpu,
      topology,
      programs: this.#programs,
      mxu,
      relaxed: this.#relaxed,
      memory: this.#memory,
      layout: this.#layout,
      port,
      waitMsLimit: limits[mxu].waitMsLimit,
      faults: faultsOf(faults, tpu, life),
    };
    // What a thread said before it ended may arrive after the news of its end, or after another
    // has taken its place: only the present one is heard.
    const isPresent = (): boolean => this.#workers[tpu]?.port === port1;
    const give = (event: MasterEvent): void => {
      if (isPresent()) this.#give(event);
    };
    port1.on('message', (value: unknown) => give(eventOf(tpu, value)));
    this.#workers[tpu] = {
      port: port1,
      life: startLife('worker', task, [port], {
        done: (lastWords) => give(endOf(tpu, lastWords)),
        failed: (error) => give({ kind: 'exited', tpu, reason: messageOf(error) }),
      }),
    };
  }

  /** Ends the thread of a Cloud TPU and starts another once it surely writes nothing any more. */
  async #replace(tpu: number): Promise<void> {
    await this.#endWorker(tpu);
    if (isOver(this.#state)) return;
    this.#words.fill(0, ...this.#controlLine(tpu));
    this.#waits[tpu] = 0;
    // Nothing that a lost one has left is trusted.
    this.#programs.forEach((_, program) => {
      for (const steps of [0, 1]) this.#parameters.clear({ tpu, program, steps });
    });
    this.#startWorker(tpu);
  }

  #endWorker(tpu: number): Promise<void> {
    const worker = this.#workers[tpu];
    if (worker === undefined) return Promise.resolve();
    this.#workers[tpu] = undefined;
    worker.port.close();
    const ending = worker.life.end().finally(() => this.#endings.delete(ending));
    this.#endings.add(ending);
    return ending;
  }

  async #shutDown(): Promise<void> {
    clearInterval(this.#sampler);
    this.#give({ kind: 'stop' });
    this.#endWaits();
    this.#layout.tpus.forEach((_, tpu) => void this.#endWorker(tpu));
    await Promise.all([...this.#endings, this.#feeds.end()]);
  }

  /** Ends every wait in shared memory: of workers for each other, and between them and loaders. */
  #endWaits(): void {
    abortFabric(this.#memory, this.#layout.fabric);
    this.#feeds.stop();
  }

  /** The words of a Cloud TPU's control line: from, to. */
  #controlLine(tpu: number): [number, number] {
    const line = at(this.#layout.tpus, tpu).control / 4;
    return [line, line + Object.keys(controlWords).length];
  }

  // --------------------------------------------------------------------------------- state machine

  #sample(): void {
    const pulses = this.#layout.tpus.map(({ control }, tpu) => {
      const line = control / 4;
      const waits = Atomics.load(this.#words, line + controlWords.awaitsInfeed);
      this.#waits[tpu] = at(this.#waits, tpu) + waits;
      return Atomics.load(this.#words, line + controlWords.beats) + at(this.#waits, tpu);
    });
    this.#give({ kind: 'sample', pulses });
  }

  /** One event after another: what an action brings about waits for the actions beside it. */
  #give(event: MasterEvent): void {
    if (this.#events.push(event) > 1) return;
    try {
      for (let next = this.#events[0]; next !== undefined; next = this.#events[0]) {
        this.#take(next);
        this.#events.shift();
      }
    } finally {
      this.#events.length = 0;
    }
  }

  #take(event: MasterEvent): void {
    if (isOver(this.#state)) return;
    const { state, actions } = this.#recorded(master(this.#state, event, performance.now()));
    this.#state = state;
    for (const action of actions) this.#perform(action);
  }

  /** A membership begins when it is written down: if it cannot be, nobody hears of it. */
  #recorded(next: Transition): Transition {
    const { epoch } = next.state;
    if (epoch === this.#state.epoch) return next;
    try {
      this.#options.onMembership?.(epoch);
      return next;
    } catch (error) {
      return master(this.#state, failureOf('the log of the run', error), performance.now());
    }
  }

  #perform(action: MasterAction): void {
    switch (action.kind) {
      case 'send':
        this.#workers[action.tpu]?.port.postMessage(action.message);
        break;
      case 'ready':
        this.#settle(undefined);
        break;
      case 'commit':
        this.#feeds.release(action.order.program, action.order.step);
        this.#settle(this.#commitOf(action));
        break;
      case 'repeated':
        this.#feeds.release(action.order.program, action.order.step);
        break;
      case 'refused':
        break;
      case 'abort':
        abortFabric(this.#memory, this.#layout.fabric);
        break;
      case 'replace':
      case 'adopt':
        // Any worker that could host it is in this process: so is a thread of its own.
        void this.#replace(action.tpu);
        break;
      case 'reset':
        this.#reset();
        break;
      case 'rewind':
        this.#rewind(action.epoch).catch((error: unknown) => {
          this.#give(failureOf('the return to a checkpoint', error));
        });
        break;
      case 'restore':
        this.#restore(action.tpu, action.from);
        this.#give({ kind: 'restored', tpu: action.tpu, epoch: action.epoch });
        break;
      case 'note':
        this.#options.onNote?.(action.note);
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

  /** Resolves when steps may begin: at once, unless a loss is being recovered from. */
  async #untilReady(): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#state.phase.kind === 'ready') return;
    assert(this.#state.phase.kind !== 'done', 'the pod is closed');
    await this.#await();
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

  // -------------------------------------------------------------------------------------- recovery

  /** Nobody runs: empties all links and takes the abort back. */
  #reset(): void {
    const { fabric } = this.#layout;
    sentBytes(this.#memory, fabric).forEach((bytes, link) => {
      this.#carried[link] = at(this.#carried, link) + bytes;
    });
    resetFabric(this.#memory, fabric);
    // A replacement has what its own program needs, and not what that took from another.
    this.#stale.fill(true);
  }

  #restore(tpu: number, from: number | null): void {
    if (from === null) return;
    this.#programs.forEach((_, program) => {
      this.#parameters.copy({ tpu, program, steps: at(this.#state.steps, program) }, from);
    });
  }

  /** Goes back to parameters that were saved, or written: on every Cloud TPU. */
  async #rewind(epoch: number): Promise<void> {
    const { told, steps: before } = this.#state;
    const saved = await Promise.all(
      this.#programs.map((it, program) =>
        changes(it) ? this.#saved(program, at(told, program)) : undefined,
      ),
    );
    const steps = saved.map((it, program) => it?.steps ?? at(before, program));
    await this.#feeds.rewind(steps);
    if (epoch !== this.#state.epoch) return;
    saved.forEach((it, program) => {
      if (it === undefined) return;
      this.#layout.tpus.forEach((_, tpu) => {
        const place = { tpu, program, steps: it.steps };
        this.#parameters.clear(place);
        this.#parameters.write(place, it.values);
      });
    });
    this.#give({ kind: 'rewound', epoch, steps });
  }

  async #saved(program: number, steps: number): Promise<SavedParameters> {
    const saved = await this.#options.saved?.(program, steps);
    return saved ?? this.#written[program] ?? { steps: 0, values: [] };
  }

  #parametersChanged(program: number): void {
    this.#programs.forEach(({ parametersFrom }, other) => {
      if (parametersFrom === program) this.#stale[other] = true;
    });
  }
}

/** The digest of parameters in order, as a Cloud TPU reports it. */
function digestOf(values: readonly Uint8Array[]): string {
  const digested = values.reduce((before, value) => {
    const words = new Uint32Array(Math.ceil(value.length / 4));
    new Uint8Array(words.buffer).set(value);
    return digest(words, before);
  }, 0n);
  return digestText(digested);
}

function checkOptions({ programs, topology, recovery = 'none' }: PodOptions): void {
  assert(programs.length > 0, 'a pod runs at least one program');
  programs.forEach(({ executable, feed, parametersFrom, digested }, number) => {
    const { name, parameters, results, next } = executable;
    assert(digested <= parameters.length, `${name}: digest of ${digested} of ${parameters.length}`);
    assert(
      (feed === undefined) === (executable.infeed.length === 0),
      `${name}: infeed and no feed`,
    );
    assert(parametersFrom !== number, `${name}: takes parameters from itself`);
    const isInPlace = next === undefined && results.some((id) => parameters.includes(id));
    assert(
      recovery === 'none' || parametersFrom !== undefined || !isInPlace,
      `${name}: compiled without keepPrevious, its steps cannot be run again`,
    );
    if (feed === undefined) return;
    const { size } = datasetOf(feed);
    const plan = planOf(feed, size, topology.columns * topology.rows, executable.cores);
    const samples = infeedGeometry(executable, 0).samples * plan.tpus;
    assert(samples === plan.globalBatch, `${name}: takes ${samples} samples a step`);
  });
}

/** Whether its steps change its parameters. */
function changes({ executable: { next, results, parameters } }: Program): boolean {
  return next !== undefined || results.some((id) => parameters.includes(id));
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
