import { MessageChannel, type MessagePort } from 'node:worker_threads';
import { enableRelaxedSimd } from '../../src/chip/engine.ts';
import { abortFabric } from '../../src/fabric/doorbell.ts';
import { resetFabric, sentBytes } from '../../src/fabric/fabric-memory.ts';
import { linkName, podTorus, type Topology, type Torus } from '../../src/fabric/torus.ts';
import { dueAt, injectionTimes, ledgerBytes } from '../../src/fault/injector.ts';
import type { Fault } from '../../src/fault/plan.ts';
import { assert, at } from '../../src/numerics/assert.ts';
import { codeOf, messageOf } from '../../src/numerics/error.ts';
import type { MasterEvent } from '../../src/pod/master/event.ts';
import { checkFromWorker, type StepOrder, type ToWorker } from '../../src/pod/messages.ts';
import type { Commit, Pod, PodOptions, Program, SavedParameters } from '../../src/pod/pod.ts';
import { type Crew, Driver } from '../driver.ts';
import { requireThreads } from '../host/room.ts';
import { waitMsLimits } from '../limits.ts';
import { masterOptions, threadTimes } from '../master-options.ts';
import { planExchanges } from '../runtime/collectives.ts';
import { datasetOf, planOf } from '../runtime/feed.ts';
import { allocate, controlWords, infeedGeometry, type Layout, layOut } from '../runtime/layout.ts';
import { startTaskThread, type TaskThread } from '../runtime/life.ts';
import { Parameters } from '../runtime/parameters.ts';
import type { WorkerTask } from '../runtime/task.ts';
import { Feeds } from './feeds.ts';

/** Options of a slice whose workers are threads of this process. */
export interface ThreadPodOptions extends PodOptions {
  /** Faults of a plan, in the order of the plan. */
  readonly faults?: readonly Fault[];
  /**
   * Called once for each injected fault. `index` is the index of the fault in `faults`; `ms` is the
   * time of the injection, in ms since 1970.
   */
  readonly onFault?: (index: number, ms: number) => void;
  /**
   * False disables fused multiply-adds (relaxed SIMD), for tests. By default they are used if the
   * engine has them.
   */
  readonly relaxed?: boolean;
}

/** A pod whose threads can be killed. */
export interface ThreadPod extends Pod {
  /** Terminates the thread of the given Cloud TPU as if it had died, for tests. */
  kill(tpu: number): void;
}

/**
 * Opens a slice in this process. Starts a thread for each Cloud TPU, and a loader thread for each
 * program that reads samples. Rejects with a PodError if memory or threads are missing, or if the
 * slice does not start.
 */
export async function openThreadPod(options: ThreadPodOptions): Promise<ThreadPod> {
  checkOptions(options);
  const loaders = options.programs.filter(({ feed }) => feed !== undefined).length;
  const torus = podTorus(options.topology);
  const executables = options.programs.map((program) => program.executable);
  const layout = layOut(torus, executables, planExchanges({ torus, executables }));
  requireThreads(torus.workers + loaders, `${torus.workers} Cloud TPUs in one process`);
  const pod = new Threads(options, torus, layout, allocate(layout.bytes));
  await pod.start();
  return pod;
}

/** The thread of a Cloud TPU and the port for messages to and from it. */
interface WorkerLife {
  readonly life: TaskThread;
  readonly port: MessagePort;
}

/**
 * A pod of threads: passes the messages and progress counters of the threads to the master's state
 * machine (through the driver) and performs what the state machine decides.
 */
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
  /**
   * The thread of each Cloud TPU, indexed by Cloud TPU; undefined while the thread is being
   * replaced.
   */
  readonly #workers: (WorkerLife | undefined)[];
  /** Shared memory in which all threads record which faults of the plan were injected. */
  readonly #ledger: SharedArrayBuffer;
  /** Indices of the faults that `onFault` has reported. */
  readonly #reported: Set<number> = new Set();
  /** One promise for each thread that is being ended, which resolves when the thread has ended. */
  readonly #endings: Set<Promise<void>> = new Set();
  /**
   * For each Cloud TPU: how many times the progress counter was read while the cores waited for the
   * infeed. The failure detector gets the progress counter plus this number. So it does not suspect
   * a worker that only waits for the loader.
   */
  readonly #waits: number[];
  /**
   * Number of bytes sent on each link until the last {@link reset}, which sets the counts of the
   * links to 0.
   */
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
    this.#ledger = new SharedArrayBuffer(ledgerBytes * (options.faults?.length ?? 0));
    this.#waits = layout.tpus.map(() => 0);
    this.#carried = sentBytes(memory, layout.fabric);
    this.#driver = new Driver(options, masterOptions(options, threadTimes), this, () =>
      performance.now(),
    );
    const failed = (error: unknown): void => {
      this.#driver.serviceFailed('the data loader', error);
    };
    this.#feeds = new Feeds(memory, layout, programs, failed, this.#driver.state.steps);
  }

  /** Starts all threads and waits until all have loaded their programs. */
  async start(): Promise<void> {
    const started = this.#driver.untilReady();
    this.#sampler = setInterval(() => this.#sample(), threadTimes.samplePeriodMs);
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
    const { topology, mxu } = this.#options;
    const { port1, port2: port } = new MessageChannel();
    const probe = this.#probeOf(tpu);
    const task: WorkerTask = {
      tpu,
      topology,
      programs: this.#programs,
      mxu,
      relaxed: this.#relaxed,
      memory: this.#memory,
      layout: this.#layout,
      port,
      waitMsLimit: waitMsLimits[mxu],
      ...probe,
    };
    // An ended thread's messages may arrive after the report of its end, or after the start of its
    // replacement. Only events of the current thread are passed on.
    const isPresent = (): boolean => this.#workers[tpu]?.port === port1;
    const give = (event: MasterEvent): void => {
      if (isPresent()) this.#driver.give(event);
    };
    port1.on('message', (value: unknown) => give(eventOf(tpu, value)));
    this.#workers[tpu] = {
      port: port1,
      life: startTaskThread('runtime/worker', task, [port], {
        done: (lastWords) => give(endOf(tpu, lastWords)),
        failed: (error) => {
          give({ kind: 'exited', tpu, reason: messageOf(error), code: codeOf(error) });
        },
      }),
    };
  }

  /**
   * Returns fields for the task of the given Cloud TPU's thread. If the plan has faults for this
   * Cloud TPU, the only field is `probe`, with these faults. Otherwise there is no field.
   */
  #probeOf(tpu: number): Pick<WorkerTask, 'probe'> {
    const { topology, faults: planned = [] } = this.#options;
    const faults = dueAt(tpu, planned, topology);
    return faults.length === 0
      ? {}
      : { probe: { faults, ledger: this.#ledger, ownsProcess: false } };
  }

  /** Reports faults that were injected since the last call. */
  #reportFaults(): void {
    const { onFault } = this.#options;
    if (onFault === undefined) return;
    for (const [index, ms] of injectionTimes(this.#ledger).entries()) {
      if (ms === undefined || this.#reported.has(index)) continue;
      this.#reported.add(index);
      onFault(index, ms);
    }
  }

  /**
   * Replaces the thread of the given Cloud TPU. The new thread starts only when the old thread can
   * no longer write to the shared memory.
   */
  async #renew(tpu: number): Promise<void> {
    await this.#endWorker(tpu);
    if (this.#driver.isOver) return;
    this.#words.fill(0, ...this.#controlLine(tpu));
    this.#waits[tpu] = 0;
    // The parameters of a lost Cloud TPU may be wrong, so they are cleared. A program may have
    // memory for two sets of parameters: `steps` 0 selects the first set, `steps` 1 the second.
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
    this.#reportFaults();
    this.#driver.give({ kind: 'stop' });
    this.#endWaits();
    this.#layout.tpus.forEach((_, tpu) => void this.#endWorker(tpu));
    await Promise.all([...this.#endings, this.#feeds.end()]);
  }

  /**
   * Ends every wait in the shared memory: of workers for one another, of workers for loaders, and
   * of loaders for workers.
   */
  #endWaits(): void {
    abortFabric(this.#memory, this.#layout.fabric);
    this.#feeds.stop();
  }

  /**
   * Returns the range of the given Cloud TPU's control line in `#words`: the index of its first
   * word, and the index after its last word. The control line has the progress counter.
   */
  #controlLine(tpu: number): [number, number] {
    const line = at(this.#layout.tpus, tpu).control / 4;
    return [line, line + Object.keys(controlWords).length];
  }

  // ------------------------------------------------------------------------------------------ crew

  /** Passes the progress counters of all Cloud TPUs to the failure detector. */
  #sample(): void {
    this.#reportFaults();
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
    // A refused message is not logged. Between threads no message gets lost, so the master refuses
    // only messages that were sent in an older membership. These are harmless.
  }

  abort(): void {
    abortFabric(this.#memory, this.#layout.fabric);
  }

  replace(tpu: number): void {
    void this.#renew(tpu);
  }

  /**
   * Starts a new thread for the given lost Cloud TPU. The master has chosen another worker to
   * emulate this Cloud TPU, but a pod of threads needs no such worker: it can always start a new
   * thread in this process.
   */
  adopt(tpu: number): void {
    void this.#renew(tpu);
  }

  /**
   * Adds the bytes sent on each link to `#carried`. Then empties all links, sets their counts of
   * bytes to 0 and clears the flag by which `abort` ends a step.
   */
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

/**
 * Returns the event for a thread that has ended. `lastWords` is the message by which the worker has
 * reported its failure, or null if it has reported none. The event is this message, or `exited` if
 * there is none.
 */
function endOf(tpu: number, lastWords: unknown): MasterEvent {
  if (lastWords !== null) return eventOf(tpu, lastWords);
  return { kind: 'exited', tpu, reason: 'the thread of the cores ended unexpectedly' };
}

/**
 * Returns the event for a value that a worker has sent: `message` if the value is a valid message,
 * otherwise `exited`.
 */
function eventOf(tpu: number, value: unknown): MasterEvent {
  try {
    return { kind: 'message', message: checkFromWorker(value) };
  } catch (error) {
    return { kind: 'exited', tpu, reason: messageOf(error) };
  }
}
