import { MessageChannel, type MessagePort } from 'node:worker_threads';
import { enableRelaxedSimd } from '../../src/chip/engine.ts';
import { abortFabric } from '../../src/fabric/doorbell.ts';
import { resetFabric, sentBytes } from '../../src/fabric/fabric-memory.ts';
import { linkName, podTorus, type Topology, type Torus } from '../../src/fabric/torus.ts';
import { assert, at } from '../../src/numerics/assert.ts';
import type { MasterEvent, MasterOptions } from '../../src/pod/master.ts';
import { checkFromWorker, type StepOrder, type ToWorker } from '../../src/pod/messages.ts';
import type { Commit, Pod, PodOptions, Program, SavedParameters } from '../../src/pod/pod.ts';
import { type Crew, codeOf, Driver, messageOf, namesOf } from '../driver.ts';
import { requireThreads } from '../host/room.ts';
import { faultsOf, type ThreadFault } from './fault.ts';
import { datasetOf, planOf } from './feed.ts';
import { Feeds } from './feeds.ts';
import { allocate, controlWords, infeedGeometry, type Layout, layOut } from './layout.ts';
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
  const loaders = options.programs.filter(({ feed }) => feed !== undefined).length;
  const torus = podTorus(options.topology);
  const layout = layOut(
    torus,
    options.programs.map((program) => program.executable),
  );
  requireThreads(torus.workers + loaders, `${torus.workers} Cloud TPUs in one process`);
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
    names: namesOf(topology),
    taking: programs.map(({ parametersFrom }) => parametersFrom !== undefined),
    startMsLimit: 60_000,
    // Threads start together: there is nobody to wait for.
    quietMsLimit: 60_000,
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

/** The thread of a Cloud TPU, and the messages to and from it. */
interface WorkerLife {
  readonly life: Life;
  readonly port: MessagePort;
}

/** Drives the master's state machine with the messages and heartbeats of the threads. */
class Threads implements ThreadPod, Crew {
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
  /** By Cloud TPU: samples in which it was waiting for its infeed, which is no silence. */
  readonly #waits: number[];
  /** By link: bytes carried in memberships before. */
  readonly #carried: Float64Array;
  readonly #driver: Driver;
  #sampler: NodeJS.Timeout | undefined;
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
    this.#waits = layout.tpus.map(() => 0);
    this.#carried = sentBytes(memory, layout.fabric);
    this.#driver = new Driver(options, masterOptions(options), this);
    const failed = (error: unknown): void => {
      this.#driver.serviceFailed('the data loader', error);
    };
    this.#feeds = new Feeds(memory, layout, programs, failed, this.#driver.state.steps);
  }

  /** Starts all threads and waits until all have loaded. */
  async start(): Promise<void> {
    const started = this.#driver.untilReady();
    this.#sampler = setInterval(() => this.#sample(), samplePeriodMs);
    this.#layout.tpus.forEach((_, tpu) => {
      this.#startWorker(tpu);
    });
    await started;
  }

  step(program: number): Promise<Commit> {
    return this.#driver.step(program);
  }

  async readParameters(program: number): Promise<readonly Uint8Array[]> {
    await this.#driver.untilReady();
    return this.#read(program);
  }

  async writeParameters(program: number, values: readonly Uint8Array[]): Promise<void> {
    const { parametersFrom, executable } = at(this.#programs, program);
    assert(parametersFrom === undefined, `${executable.name} takes its parameters from another`);
    await this.#driver.untilReady();
    const steps = this.#driver.stepsOf(program);
    this.#layout.tpus.forEach((_, tpu) => {
      this.#parameters.write({ tpu, program, steps }, values);
    });
    this.#driver.wrote(program, this.#read(program));
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

  #read(program: number): Uint8Array[] {
    return this.#parameters.read({ tpu: 0, program, steps: this.#driver.stepsOf(program) });
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
      if (isPresent()) this.#driver.give(event);
    };
    port1.on('message', (value: unknown) => give(eventOf(tpu, value)));
    this.#workers[tpu] = {
      port: port1,
      life: startLife('worker', task, [port], {
        done: (lastWords) => give(endOf(tpu, lastWords)),
        failed: (error) => {
          give({ kind: 'exited', tpu, reason: messageOf(error), code: codeOf(error) });
        },
      }),
    };
  }

  /** Ends the thread of a Cloud TPU and starts another once it surely writes nothing any more. */
  async #renew(tpu: number): Promise<void> {
    await this.#endWorker(tpu);
    if (this.#driver.isOver) return;
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
    this.#driver.give({ kind: 'stop' });
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

  // ------------------------------------------------------------------------------------------ crew

  #sample(): void {
    const progress = this.#layout.tpus.map(({ control }, tpu) => {
      const line = control / 4;
      const waits = Atomics.load(this.#words, line + controlWords.awaitsInfeed);
      this.#waits[tpu] = at(this.#waits, tpu) + waits;
      return Atomics.load(this.#words, line + controlWords.progress) + at(this.#waits, tpu);
    });
    this.#driver.give({ kind: 'sample', progress });
  }

  send(tpu: number, message: ToWorker): void {
    this.#workers[tpu]?.port.postMessage(message);
  }

  refused(): void {
    // Threads are too close for messages to get lost: what is refused has been overtaken.
  }

  abort(): void {
    abortFabric(this.#memory, this.#layout.fabric);
  }

  replace(tpu: number): void {
    void this.#renew(tpu);
  }

  /** Any worker that could host it is in this process: so is a thread of its own. */
  adopt(tpu: number): void {
    void this.#renew(tpu);
  }

  /** Empties all links and takes the abort back. */
  reset(): void {
    const { fabric } = this.#layout;
    sentBytes(this.#memory, fabric).forEach((bytes, link) => {
      this.#carried[link] = at(this.#carried, link) + bytes;
    });
    resetFabric(this.#memory, fabric);
  }

  release({ program, step }: StepOrder): void {
    this.#feeds.release(program, step);
  }

  async restore(tpu: number, from: number, steps: readonly number[]): Promise<void> {
    this.#programs.forEach((_, program) => {
      this.#parameters.copy({ tpu, program, steps: at(steps, program) }, from);
    });
  }

  async rollBack(
    saved: readonly (SavedParameters | undefined)[],
    steps: readonly number[],
  ): Promise<void> {
    const { generation } = this.#driver.state;
    await this.#feeds.rollBack(steps);
    if (generation !== this.#driver.state.generation) return;
    saved.forEach((it, program) => {
      if (it === undefined) return;
      this.#layout.tpus.forEach((_, tpu) => {
        const place = { tpu, program, steps: it.steps };
        this.#parameters.clear(place);
        this.#parameters.write(place, it.values);
      });
    });
  }
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
