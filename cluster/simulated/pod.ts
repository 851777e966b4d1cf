import type { Topology } from '../../src/fabric/torus.ts';
import { type Due, type Ledger, memoryLedger } from '../../src/fault/injector.ts';
import { type Fault, targetsOf } from '../../src/fault/plan.ts';
import { mulberry32 } from '../../src/fault/schedule.ts';
import { assert, at } from '../../src/numerics/assert.ts';
import type { Note } from '../../src/pod/master/action.ts';
import type { MasterEvent } from '../../src/pod/master/event.ts';
import { isVacant } from '../../src/pod/master/master.ts';
import { checkFromWorker, type FromWorker, type ToWorker } from '../../src/pod/messages.ts';
import type { Commit, Pod, PodOptions, SavedParameters } from '../../src/pod/pod.ts';
import { type Crew, Driver } from '../driver.ts';
import { type CrewTimes, masterOptions } from '../master-options.ts';
import { Agenda } from './agenda.ts';
import { type Axis, Cores, type CoresOptions, type Frame } from './cores.ts';
import { Life } from './life.ts';
import { defaultTimes, type Range, type SimulatedTimes } from './times.ts';
import { hash } from './weights.ts';

/** Options of a simulated slice. */
export interface SimulatedPodOptions extends PodOptions {
  /** Seed of the times that messages take. */
  readonly seed?: number;
  /** Faults of a plan, in the order of the plan. */
  readonly faults?: readonly Fault[];
  /** Called with each event of the simulation except frames. */
  readonly onEvent?: (event: SimulatedEvent) => void;
  readonly times?: Partial<SimulatedTimes>;
}

/** An event of the simulation, and its virtual time. */
export type SimulatedEvent = Happening & { readonly ms: number };

/** What happens in a simulation. */
export type Happening =
  /** The worker of a Cloud TPU starts. `host`: the Cloud TPU whose worker hosts it too, or null. */
  | { readonly event: 'started'; readonly tpu: number; readonly host: number | null }
  /** The worker of a Cloud TPU is ended, because it is to be replaced. */
  | { readonly event: 'ended'; readonly tpu: number }
  | { readonly event: 'injected'; readonly index: number; readonly fault: Fault }
  /** A message of the master has arrived at a worker. */
  | { readonly event: 'delivered'; readonly tpu: number; readonly message: ToWorker }
  /** A message of a worker, or the news of its end, has arrived at the master. */
  | { readonly event: 'reported'; readonly tpu: number; readonly report: MasterEvent }
  /** The master has ignored a message. */
  | { readonly event: 'refused'; readonly message: FromWorker; readonly reason: string }
  | { readonly event: 'noted'; readonly note: Note };

/** A pod in virtual time. */
export interface SimulatedPod extends Pod {
  /** Virtual time, in ms. */
  readonly nowMs: number;
  readonly traffic: Traffic;
}

/** Delivered messages and frames. */
export interface Traffic {
  readonly messages: number;
  readonly frames: number;
  /** Hash of all delivered frames, in order, with their times. */
  readonly hash: number;
}

/** Traffic of a pod that has not started. */
export const noTraffic: Traffic = { messages: 0, frames: 0, hash: 0 };

/** Period of the samples that the failure detector takes of all progress counters. */
const samplePeriodMs = 100;

/** The times of a pod of threads. */
const crewTimes: CrewTimes = {
  startMsLimit: 60_000,
  quietMsLimit: 60_000,
  graceMsLimit: 10_000,
  samplePeriodMs,
};

/** Longest virtual time, in ms, for a step or for a start. No recovery takes so long. */
const waitMsLimit = 3_600_000;

/**
 * Opens a slice of simulated workers. Driver, master and state machines of the workers are those of
 * every pod; the cores, the messages and the time are simulated, in this thread. The same options
 * give the same events in the same order.
 */
export async function openSimulatedPod(options: SimulatedPodOptions): Promise<SimulatedPod> {
  const pod = new Simulated(options);
  await pod.start();
  return pod;
}

class Simulated implements SimulatedPod, Crew {
  readonly topology: Topology;
  /** Zero, because the weights of a simulated Cloud TPU are a few bytes. */
  readonly memoryBytes = 0;
  readonly #options: SimulatedPodOptions;
  readonly #times: SimulatedTimes;
  readonly #agenda: Agenda = new Agenda();
  readonly #random: () => number;
  readonly #cores: CoresOptions;
  /** The worker of each Cloud TPU; undefined while it is being replaced. */
  readonly #lives: (Life | undefined)[];
  /** When the last message or frame of each channel arrives, in microseconds: none overtakes. */
  readonly #arrivals: WeakMap<Life, Channels> = new WeakMap();
  readonly #driver: Driver;
  readonly #traffic: { messages: number; frames: number; hash: number };
  /** Number of calls of `PodOptions.saved` that have not returned yet. */
  #reading = 0;
  /** True if an event may have resolved a promise, so that its continuations must run first. */
  #mustDrain = true;

  constructor(options: SimulatedPodOptions) {
    const { topology, programs, seed = 0 } = options;
    this.topology = topology;
    this.#options = options;
    this.#times = { ...defaultTimes, ...options.times };
    this.#random = mulberry32(seed);
    const [times, agenda] = [this.#times, this.#agenda];
    this.#cores = { topology, programs, times, agenda, ledger: this.#ledger() };
    const tpus = topology.columns * topology.rows;
    this.#lives = Array.from({ length: tpus }, () => undefined);
    this.#traffic = { ...noTraffic };
    this.#driver = new Driver(
      this.#watched(options),
      masterOptions(options, crewTimes),
      this,
      () => agenda.nowMs,
    );
  }

  async start(): Promise<void> {
    this.#lives.forEach((_, tpu) => {
      this.#startAfter(this.#times.start, tpu, null);
    });
    this.#sampleLater();
    await this.#until(this.#driver.untilReady());
  }

  get nowMs(): number {
    return this.#agenda.nowMs;
  }

  get traffic(): Traffic {
    return this.#traffic;
  }

  step(program: number): Promise<Commit> {
    return this.#until(this.#driver.step(program));
  }

  async readParameters(program: number): Promise<readonly Uint8Array[]> {
    await this.#until(this.#driver.untilReady());
    return this.#read(program);
  }

  async writeParameters(program: number, values: readonly Uint8Array[]): Promise<void> {
    await this.#until(this.#driver.untilReady());
    for (const life of this.#lives) {
      life?.cores.weights.write(program, this.#driver.stepsOf(program), values);
    }
    this.#driver.wrote(program, this.#read(program));
  }

  /** Returns an empty object, because frames of the simulation have no bytes. */
  linkBytes(): Readonly<Record<string, number>> {
    return {};
  }

  /** Ends all workers. The driver calls it too, when the run has failed. */
  async close(): Promise<void> {
    this.#driver.give({ kind: 'stop' });
    for (const life of this.#lives) life?.end();
  }

  #read(program: number): readonly Uint8Array[] {
    const life = this.#lives[0];
    assert(life !== undefined, 'a pod that is ready has all workers');
    return [life.cores.weights.read(program, this.#driver.stepsOf(program))];
  }

  // ---------------------------------------------------------------------------------------- time

  /**
   * Lets events happen until a promise of the driver is settled. After each event that can have
   * resolved a promise, all continuations run before the next event: they are done when the event
   * loop of the engine comes to its next turn. Virtual time stands still while nobody waits.
   */
  async #until<T>(promise: Promise<T>): Promise<T> {
    const sinceMs = this.nowMs;
    let isSettled = false;
    const settle = (): void => {
      isSettled = true;
    };
    promise.then(settle, settle);
    this.#mustDrain = true;
    for (;;) {
      if (this.#mustDrain) await this.#drain();
      if (isSettled) return promise;
      assert(this.nowMs - sinceMs < waitMsLimit, `nothing ends within ${waitMsLimit} ms`);
      this.#agenda.next();
    }
  }

  async #drain(): Promise<void> {
    this.#mustDrain = false;
    do await turn();
    while (this.#reading > 0);
  }

  /** Returns the options for the driver, with records of all notes and of all calls of `saved`. */
  #watched(options: PodOptions): PodOptions {
    const { saved, onNote } = options;
    return {
      ...options,
      ...(saved !== undefined && { saved: this.#counted(saved) }),
      onNote: (note) => {
        this.#log({ event: 'noted', note });
        onNote?.(note);
      },
    };
  }

  /** Returns `saved` with a count of its running calls, which take no virtual time. */
  #counted(saved: NonNullable<PodOptions['saved']>): NonNullable<PodOptions['saved']> {
    return async (program, steps) => {
      this.#reading++;
      try {
        return await saved(program, steps);
      } finally {
        this.#reading--;
      }
    };
  }

  #drawn({ least, spread }: Range): number {
    return least + Math.floor(spread * this.#random());
  }

  #give(event: MasterEvent): void {
    this.#mustDrain = true;
    this.#driver.give(event);
  }

  #sampleLater(): void {
    this.#agenda.after(1000 * samplePeriodMs, () => {
      if (this.#driver.isOver) return;
      this.#give({ kind: 'sample', progress: this.#lives.map((life) => life?.sample() ?? 0) });
      this.#sampleLater();
    });
  }

  // ------------------------------------------------------------------------------------- workers

  #startAfter(range: Range, tpu: number, host: number | null): void {
    this.#agenda.after(this.#drawn(range), () => {
      const { state, isOver } = this.#driver;
      // A replacement that comes after another worker has adopted the Cloud TPU is not needed.
      const isNeeded = isVacant(state, tpu) || at(state.members, tpu).host === host;
      if (!isOver && this.#lives[tpu] === undefined && isNeeded) this.#startWorker(tpu, host);
    });
  }

  #startWorker(tpu: number, host: number | null): void {
    const { programs, faults = [] } = this.#options;
    const due = faults.flatMap((fault, index): Due[] =>
      targetsOf(fault, this.topology).includes(tpu) ? [{ index, fault }] : [],
    );
    const cores = new Cores(tpu, this.#cores, due, (axis, frame) => {
      this.#sendFrame(life, axis, frame);
    });
    const parts = {
      ...{ tpu, host, cores, agenda: this.#agenda, times: this.#times },
      sources: programs.map(({ parametersFrom }) => parametersFrom),
    };
    const life: Life = new Life(parts, {
      send: (message) => this.#toMaster(life, { kind: 'message', message }),
      died: (reason, code) => this.#toMaster(life, { kind: 'exited', tpu, reason, code }),
    });
    this.#lives[tpu] = life;
    this.#arrivals.set(life, { toMaster: 0, toWorker: 0, frames: [0, 0] });
    this.#log({ event: 'started', tpu, host });
    life.start(this.#driver.state.generation);
  }

  #endWorker(tpu: number): void {
    const life = this.#lives[tpu];
    if (life === undefined) return;
    this.#log({ event: 'ended', tpu });
    this.#lives[tpu] = undefined;
    life.end();
  }

  #ledger(): Ledger {
    const ledger = memoryLedger();
    return {
      has: (index) => ledger.has(index),
      record: (index) => {
        ledger.record(index);
        const fault = at(this.#options.faults ?? [], index);
        this.#log({ event: 'injected', index, fault });
      },
    };
  }

  #log(event: Happening): void {
    this.#options.onEvent?.({ ms: this.nowMs, ...event });
  }

  // ---------------------------------------------------------------------------------- messages

  #channels(life: Life): Channels {
    const channels = this.#arrivals.get(life);
    assert(channels !== undefined, 'every worker has channels');
    return channels;
  }

  /** Delivers an event of a worker to the master, if the worker still has its Cloud TPU then. */
  #toMaster(life: Life, event: MasterEvent & { kind: 'message' | 'exited' }): void {
    const channels = this.#channels(life);
    channels.toMaster = this.#arrival(channels.toMaster, this.#times.message);
    this.#agenda.at(channels.toMaster, () => {
      if (this.#lives[life.tpu] !== life) return;
      this.#traffic.messages++;
      this.#log({ event: 'reported', tpu: life.tpu, report: event });
      this.#give(checked(event));
    });
  }

  #sendFrame(life: Life, axis: Axis, frame: Frame): void {
    const { frames } = this.#channels(life);
    frames[axis] = this.#arrival(frames[axis], this.#times.frame);
    const tpu = this.#next(life.tpu, axis);
    this.#agenda.at(frames[axis], () => {
      const traffic = this.#traffic;
      traffic.frames++;
      traffic.hash = hash(traffic.hash, this.#agenda.nowUs, tpu, axis, frame.sequence, frame.value);
      this.#lives[tpu]?.arrive(axis, frame);
    });
  }

  #arrival(lastUs: number, range: Range): number {
    return Math.max(lastUs, this.#agenda.nowUs + this.#drawn(range));
  }

  /** Number of the next Cloud TPU on a ring. */
  #next(tpu: number, axis: Axis): number {
    const { columns, rows } = this.topology;
    const [x, y] = [tpu % columns, Math.floor(tpu / columns)];
    return axis === 0 ? y * columns + ((x + 1) % columns) : ((y + 1) % rows) * columns + x;
  }

  // ---------------------------------------------------------------------------------------- crew

  send(tpu: number, message: ToWorker): void {
    const life = this.#lives[tpu];
    if (life === undefined) return;
    const channels = this.#channels(life);
    channels.toWorker = this.#arrival(channels.toWorker, this.#times.message);
    this.#agenda.at(channels.toWorker, () => {
      this.#traffic.messages++;
      this.#log({ event: 'delivered', tpu, message });
      life.receive(message);
    });
  }

  refused(message: FromWorker, reason: string): void {
    this.#log({ event: 'refused', message, reason });
  }

  abort(): void {
    // Nothing to do: simulated workers share no memory, and leave a step when the message arrives.
  }

  replace(tpu: number): void {
    this.#endWorker(tpu);
    this.#startAfter(this.#times.replace, tpu, null);
  }

  adopt(tpu: number, host: number): void {
    this.#endWorker(tpu);
    this.#startAfter(this.#times.message, tpu, host);
  }

  reset(): void {
    // Nothing to do: a worker empties its links when it loads.
  }

  release(): void {
    // Nothing to do: simulated workers have no feeds.
  }

  restore(tpu: number, from: number, steps: readonly number[]): Promise<void> {
    const [taker, source] = [this.#lives[tpu], this.#lives[from]];
    const { generation } = this.#driver.state;
    return new Promise((resolve) => {
      if (taker === undefined || source === undefined) return;
      taker.takeParameters(source, generation, steps, () => {
        this.#mustDrain = true;
        resolve();
      });
    });
  }

  async rollBack(
    saved: readonly (SavedParameters | undefined)[],
    _steps: readonly number[],
  ): Promise<void> {
    const { generation } = this.#driver.state;
    await this.#pass(this.#times.copy);
    if (generation !== this.#driver.state.generation) return;
    saved.forEach((it, program) => {
      if (it === undefined) return;
      for (const life of this.#lives) life?.cores.weights.write(program, it.steps, it.values);
    });
  }

  /** Resolves after `us` microseconds of virtual time. */
  #pass(us: number): Promise<void> {
    return new Promise((resolve) => {
      this.#agenda.after(us, () => {
        this.#mustDrain = true;
        resolve();
      });
    });
  }
}

/** When the last message or frame of each channel of a worker arrives, in microseconds. */
interface Channels {
  toMaster: number;
  toWorker: number;
  readonly frames: [number, number];
}

/** Checks a message as if it came from another process. */
function checked(event: MasterEvent & { kind: 'message' | 'exited' }): MasterEvent {
  if (event.kind === 'exited') return event;
  return { kind: 'message', message: checkFromWorker(event.message) };
}

/** Resolves at the next turn of the event loop, when all promise continuations have run. */
function turn(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve);
  });
}
