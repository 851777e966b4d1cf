import { flatTorus, type Topology } from '../../src/fabric/torus.ts';
import { dueAt, type Ledger, memoryLedger } from '../../src/fault/injector.ts';
import type { Fault } from '../../src/fault/plan.ts';
import { assert, at } from '../../src/numerics/assert.ts';
import { mulberry32 } from '../../src/numerics/generator.ts';
import type { MasterEvent } from '../../src/pod/master/event.ts';
import { isVacant } from '../../src/pod/master/master.ts';
import { checkFromWorker, type FromWorker, type ToWorker } from '../../src/pod/messages.ts';
import type { Commit, Pod, PodOptions, SavedParameters } from '../../src/pod/pod.ts';
import { type Crew, Driver } from '../driver.ts';
import { masterOptions, threadTimes } from '../master-options.ts';
import { Agenda } from './agenda.ts';
import { Cores, type CoresOptions } from './cores.ts';
import type { Happening, SimulatedEvent } from './event.ts';
import { Life } from './life.ts';
import { PodMemory } from './memory.ts';
import { Network, type Traffic } from './network.ts';
import { defaultTimes, drawn, type Range, type SimulatedTimes } from './times.ts';
import { Waiting } from './waiting.ts';

/** Options of a simulated pod. */
export interface SimulatedPodOptions extends PodOptions {
  /** Seed of the random times: how long messages, frames and starts of workers take. */
  readonly seed?: number;
  /** Faults to inject, in the order of the fault plan. Default: none. */
  readonly faults?: readonly Fault[];
  /** Called with each event of the simulation. A frame is not an event. */
  readonly onEvent?: (event: SimulatedEvent) => void;
  readonly times?: Partial<SimulatedTimes>;
}

/** A pod in virtual time. */
export interface SimulatedPod extends Pod {
  /** Virtual time, in ms. */
  readonly nowMs: number;
  readonly traffic: Traffic;
}

/**
 * Opens a pod of simulated workers. The driver, the master and the workers' state machines are the
 * same code as in every pod. Cores, messages and time are simulated in the calling thread. Equal
 * options give the same events in the same order.
 */
export async function openSimulatedPod(options: SimulatedPodOptions): Promise<SimulatedPod> {
  const pod = new Simulated(options);
  await pod.start();
  return pod;
}

class Simulated implements SimulatedPod, Crew {
  readonly topology: Topology;
  /** Zero, because a simulated Cloud TPU has no emulated memory, only a few bytes of weights. */
  readonly memoryBytes = 0;
  readonly #options: SimulatedPodOptions;
  readonly #times: SimulatedTimes;
  readonly #agenda: Agenda = new Agenda();
  readonly #waiting: Waiting = new Waiting(this.#agenda);
  readonly #random: () => number;
  readonly #cores: CoresOptions;
  /**
   * Worker of each Cloud TPU, indexed by the number of the Cloud TPU. Undefined until the first
   * worker has started, and again from the loss of a worker until its replacement has started.
   */
  readonly #lives: (Life | undefined)[];
  /** Progress counters of the Cloud TPUs, as the master has seen them last. */
  readonly #seen: number[] = [];
  readonly #memory: PodMemory;
  readonly #network: Network;
  readonly #driver: Driver;

  constructor(options: SimulatedPodOptions) {
    const { topology, programs, seed = 0 } = options;
    this.topology = topology;
    this.#options = options;
    this.#times = { ...defaultTimes, ...options.times };
    this.#random = mulberry32(seed);
    const torus = flatTorus(topology.columns, topology.rows);
    const buckets = programs.map(({ executable }) => executable.buckets.length);
    this.#memory = new PodMemory(torus, Math.max(...buckets));
    this.#network = new Network(topology, torus, this.#agenda, this.#times, this.#random);
    const [times, agenda] = [this.#times, this.#agenda];
    const { faults: linkFaults } = this.#network;
    this.#cores = {
      ...{ programs, memory: this.#memory, linkFaults, times, agenda },
      ledger: this.#ledger(),
    };
    const tpus = topology.columns * topology.rows;
    this.#lives = Array.from({ length: tpus }, () => undefined);
    this.#driver = new Driver(
      this.#watched(options),
      masterOptions(options, threadTimes),
      this,
      () => agenda.nowMs,
    );
  }

  async start(): Promise<void> {
    this.#lives.forEach((_, tpu) => {
      this.#startAfter(this.#times.start, tpu, null);
    });
    this.#sampleLater();
    await this.#waiting.until(this.#driver.untilReady());
  }

  get nowMs(): number {
    return this.#agenda.nowMs;
  }

  get traffic(): Traffic {
    return this.#network.traffic;
  }

  step(program: number): Promise<Commit> {
    return this.#waiting.until(this.#driver.step(program));
  }

  async readParameters(program: number): Promise<readonly Uint8Array[]> {
    await this.#waiting.until(this.#driver.untilReady());
    return this.#read(program);
  }

  async writeParameters(program: number, values: readonly Uint8Array[]): Promise<void> {
    await this.#waiting.until(this.#driver.untilReady());
    for (const life of this.#lives) {
      life?.cores.weights.write(program, this.#driver.stepsOf(program), values);
    }
    this.#driver.wrote(program, this.#read(program));
  }

  /** Returns an empty object, because frames of the simulation have no bytes. */
  linkBytes(): Readonly<Record<string, number>> {
    return {};
  }

  /** Ends all workers. Called when the pod is closed, and by the driver when the run has failed. */
  async close(): Promise<void> {
    this.#driver.give({ kind: 'stop' });
    for (const life of this.#lives) life?.end();
    this.#memory.release();
  }

  #read(program: number): readonly Uint8Array[] {
    const life = this.#lives[0];
    assert(life !== undefined, 'a pod that is ready has all workers');
    return [life.cores.weights.read(program, this.#driver.stepsOf(program))];
  }

  // ---------------------------------------------------------------------------------------- time

  /**
   * Returns `options` with two changes. Virtual time stands still while the function `saved` reads
   * parameters. Each note is also logged as an event of the simulation.
   */
  #watched(options: PodOptions): PodOptions {
    const { saved, onNote } = options;
    return {
      ...options,
      ...(saved !== undefined && { saved: this.#waiting.counted(saved) }),
      onNote: (note) => {
        this.#log({ event: 'noted', note });
        onNote?.(note);
      },
    };
  }

  #give(event: MasterEvent): void {
    this.#waiting.touch();
    this.#driver.give(event);
  }

  #sampleLater(): void {
    this.#agenda.after(1000 * threadTimes.samplePeriodMs, () => {
      if (this.#driver.isOver) return;
      this.#give({ kind: 'sample', progress: this.#samples() });
      this.#sampleLater();
    });
  }

  /**
   * Returns the progress counters of all Cloud TPUs. Those that a partition separates from the
   * master keep the counters that the master has seen last.
   */
  #samples(): readonly number[] {
    const { faults } = this.#network;
    this.#lives.forEach((life, tpu) => {
      const isSeen = faults.isEmpty || !faults.isCutOff(life?.site ?? tpu);
      if (isSeen) this.#seen[tpu] = life?.sample() ?? 0;
    });
    return [...this.#seen];
  }

  // ------------------------------------------------------------------------------------- workers

  #startAfter(range: Range, tpu: number, host: number | null): void {
    this.#agenda.after(drawn(range, this.#random), () => {
      const { state, isOver } = this.#driver;
      // A replacement is no longer needed if another worker has adopted the Cloud TPU meanwhile.
      const isNeeded = isVacant(state, tpu) || at(state.members, tpu).host === host;
      if (!isOver && this.#lives[tpu] === undefined && isNeeded) this.#startWorker(tpu, host);
    });
  }

  #startWorker(tpu: number, host: number | null): void {
    const { programs, faults = [] } = this.#options;
    const due = dueAt(tpu, faults, this.topology);
    const cores = new Cores(tpu, host ?? tpu, this.#cores, due);
    const parts = {
      ...{ tpu, host, cores, agenda: this.#agenda, network: this.#network, times: this.#times },
      sources: programs.map(({ parametersFrom }) => parametersFrom),
    };
    const life: Life = new Life(parts, {
      send: (message) => this.#toMaster(life, { kind: 'message', message }),
      died: (reason, code) => {
        this.#endGuests(tpu);
        this.#toMaster(life, { kind: 'exited', tpu, reason, code });
      },
    });
    this.#lives[tpu] = life;
    this.#log({ event: 'started', tpu, host });
    life.start(this.#driver.state.generation);
  }

  #endWorker(tpu: number): void {
    const life = this.#lives[tpu];
    if (life === undefined) return;
    this.#log({ event: 'ended', tpu });
    this.#lives[tpu] = undefined;
    life.end();
    this.#endGuests(tpu);
  }

  /**
   * Called when the worker of Cloud TPU `host` has ended. Ends the workers of all Cloud TPUs that
   * this worker had adopted.
   */
  #endGuests(host: number): void {
    for (const life of this.#lives) if (life?.host === host) life.end();
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

  /**
   * Sends a worker's event to the master. Drops the event if the worker has been replaced by the
   * time the event arrives.
   */
  #toMaster(life: Life, event: MasterEvent & { kind: 'message' | 'exited' }): void {
    this.#network.send(life, 'toMaster', () => {
      if (this.#lives[life.tpu] !== life) return;
      this.#log({ event: 'reported', tpu: life.tpu, report: event });
      this.#give(checked(event));
    });
  }

  // ---------------------------------------------------------------------------------------- crew

  send(tpu: number, message: ToWorker): void {
    const life = this.#lives[tpu];
    if (life === undefined) return;
    this.#network.send(life, 'toWorker', () => {
      if (life.isOver) return;
      this.#log({ event: 'delivered', tpu, message });
      life.receive(message);
    });
  }

  refused(message: FromWorker, reason: string): void {
    this.#log({ event: 'refused', message, reason });
  }

  abort(): void {
    // Nothing to do: simulated workers share no memory. The message `abort` interrupts their steps.
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
    // Nothing to do: each worker empties its links when it loads the programs for a new membership.
  }

  release(): void {
    // Nothing to do: simulated workers have no queue of infeed data.
  }

  restore(tpu: number, from: number, steps: readonly number[]): Promise<void> {
    const [taker, source] = [this.#lives[tpu], this.#lives[from]];
    const { generation } = this.#driver.state;
    return new Promise((resolve) => {
      if (taker === undefined || source === undefined) return;
      taker.takeParameters(source, generation, steps, () => {
        this.#waiting.touch();
        resolve();
      });
    });
  }

  async rollBack(
    saved: readonly (SavedParameters | undefined)[],
    _steps: readonly number[],
  ): Promise<void> {
    const { generation } = this.#driver.state;
    await this.#waiting.pass(this.#times.copy);
    if (generation !== this.#driver.state.generation) return;
    saved.forEach((it, program) => {
      if (it === undefined) return;
      for (const life of this.#lives) life?.cores.weights.write(program, it.steps, it.values);
    });
  }
}

/** Checks the fields of a worker's message, as a master does if the worker is another process. */
function checked(event: MasterEvent & { kind: 'message' | 'exited' }): MasterEvent {
  if (event.kind === 'exited') return event;
  return { kind: 'message', message: checkFromWorker(event.message) };
}
