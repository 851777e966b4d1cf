import type { Topology } from '../../src/fabric/torus.ts';
import { assert, at } from '../../src/numerics/assert.ts';
import type { MasterEvent } from '../../src/pod/master/event.ts';
import { isVacant } from '../../src/pod/master/master.ts';
import { checkFromWorker, type FromWorker, type ToWorker } from '../../src/pod/messages.ts';
import type { Commit, Pod, PodOptions, SavedParameters } from '../../src/pod/pod.ts';
import { type Crew, Driver } from '../driver.ts';
import { isFinal } from '../final.ts';
import { masterOptions, threadTimes } from '../master-options.ts';
import type { Agenda } from './agenda.ts';
import type { Happening } from './event.ts';
import type { Life } from './life.ts';
import type { Network } from './network.ts';
import type { Process } from './process.ts';
import { drawn, type Range, type SimulatedTimes } from './times.ts';
import type { Waiting } from './waiting.ts';
import type { Leader, MasterLink, WorkerReport, Workers } from './workers.ts';

/** What a pod needs of the simulation. */
export interface SimulatedPodParts {
  /** Process of the master, and the number of the master, from 1. */
  readonly process: Process;
  readonly number: number;
  readonly workers: Workers;
  readonly agenda: Agenda;
  readonly waiting: Waiting;
  readonly network: Network;
  readonly times: SimulatedTimes;
  readonly random: () => number;
  readonly log: (event: Happening) => void;
  /** Called with each committed step, of training or evaluation, before `Pod.step` returns it. */
  readonly onCommit: (commit: Commit) => void;
  /** True if the workers must go on, with their parameters, after the pod has closed. */
  readonly keepsWorkers: () => boolean;
}

/**
 * Opens a pod of simulated workers for one master. The driver, the master and the workers' state
 * machines are the same code as in every pod. If a Cloud TPU has a worker already, this worker
 * reports to the new master. For every other Cloud TPU a worker is started.
 */
export async function openSimulatedPod(
  options: PodOptions,
  parts: SimulatedPodParts,
): Promise<Pod> {
  const pod = new SimulatedPod(options, parts);
  try {
    await pod.start();
  } catch (error) {
    await pod.close();
    throw error;
  }
  return pod;
}

/** Wait, in microseconds, before a master that is cut off tries again to connect with a worker. */
const retryUs = 50_000;

class SimulatedPod implements Pod, Crew, Leader {
  readonly topology: Topology;
  /** Zero, because a simulated Cloud TPU has no emulated memory, only a few bytes of weights. */
  readonly memoryBytes = 0;
  readonly process: Process;
  readonly number: number;
  readonly #parts: SimulatedPodParts;
  readonly #workers: Workers;
  readonly #driver: Driver;
  /**
   * For each Cloud TPU: the connection of its worker with this master; undefined if there is none.
   */
  readonly #links: (MasterLink | undefined)[];
  /** Progress counters of the Cloud TPUs, as the master has seen them last. */
  readonly #seen: number[] = [];

  constructor(options: PodOptions, parts: SimulatedPodParts) {
    this.topology = options.topology;
    this.process = parts.process;
    this.number = parts.number;
    this.#parts = parts;
    this.#workers = parts.workers;
    this.#links = Array.from({ length: parts.workers.count }, () => undefined);
    const now = (): number => parts.agenda.nowMs;
    this.#driver = new Driver(
      this.#watched(options),
      masterOptions(options, threadTimes),
      this,
      now,
    );
  }

  async start(): Promise<void> {
    this.#workers.follow(this);
    if (this.#workers.isLedBy(this)) for (const tpu of this.#links.keys()) this.#takeOver(tpu);
    this.#sampleLater();
    await this.#driver.untilReady();
  }

  async step(program: number): Promise<Commit> {
    const commit = await this.#driver.step(program);
    this.#parts.onCommit(commit);
    return commit;
  }

  async readParameters(program: number): Promise<readonly Uint8Array[]> {
    await this.#driver.untilReady();
    return this.#read(program);
  }

  async writeParameters(program: number, values: readonly Uint8Array[]): Promise<void> {
    await this.#driver.untilReady();
    for (const life of this.#lives) {
      life.cores.weights.write(program, this.#driver.stepsOf(program), values);
    }
    this.#driver.wrote(program, this.#read(program));
  }

  /**
   * Returns an empty object. In a real pod the keys are names of links, but these links are not
   * simulated.
   */
  linkBytes(): Readonly<Record<string, number>> {
    return {};
  }

  /**
   * Closes the pod. If another master may continue the run, the workers keep their parameters.
   * Otherwise all workers of this master end. Called also by the driver when the run has failed.
   */
  async close(): Promise<void> {
    if (this.process.isOver) return;
    const { failure } = this.#driver;
    const keeps = this.#parts.keepsWorkers() || (failure !== undefined && !isFinal(failure));
    if (keeps) return;
    this.#driver.give({ kind: 'stop' });
    for (const link of this.#links) {
      if (link !== undefined && this.#workers.isCurrent(link)) link.life.end();
    }
  }

  get #lives(): readonly Life[] {
    return this.#links.flatMap((link) => (link === undefined ? [] : [link.life]));
  }

  #read(program: number): readonly Uint8Array[] {
    const life = this.#links[0]?.life;
    assert(life !== undefined, 'a pod that is ready has all workers');
    return [life.cores.weights.read(program, this.#driver.stepsOf(program))];
  }

  /** Returns `options` with one change: each note is also logged as an event of the simulation. */
  #watched(options: PodOptions): PodOptions {
    return {
      ...options,
      onNote: (note) => {
        this.#parts.log({ event: 'noted', note });
        options.onNote?.(note);
      },
    };
  }

  #give(event: MasterEvent): void {
    const { phase } = this.#driver.state;
    this.#driver.give(event);
    // When the phase of the master's state changes, the driver may resolve promises. Code that
    // awaits them must run before the next event.
    if (this.#driver.state.phase !== phase) this.#parts.waiting.touch();
  }

  #sampleLater(): void {
    this.process.after(1000 * threadTimes.samplePeriodMs, () => {
      if (this.#driver.isOver) return;
      this.#give({ kind: 'sample', progress: this.#samples() });
      this.#sampleLater();
    });
  }

  /**
   * Returns the progress counters of all Cloud TPUs. If a Cloud TPU is cut off from the master, its
   * counter is the one that the master has seen last.
   */
  #samples(): readonly number[] {
    this.#links.forEach((link, tpu) => {
      if (link === undefined) this.#seen[tpu] = 0;
      else if (this.#parts.network.reaches(link)) this.#seen[tpu] = link.life.sample();
    });
    return [...this.#seen];
  }

  // ------------------------------------------------------------------------------------- workers

  /** Connects with the worker of a Cloud TPU, or starts one if there is none. */
  #takeOver(tpu: number): void {
    const life = this.#workers.of(tpu);
    if (life !== undefined && life.host === null) this.#connectAfter(this.#drawnMessageUs(), life);
    else {
      // If the Cloud TPU was adopted, its worker runs on the machine of another Cloud TPU. This
      // worker ends, and the Cloud TPU gets a worker on its own machine.
      this.#workers.end(tpu);
      this.#startAfter(this.#parts.times.start, tpu, null);
    }
  }

  #drawnMessageUs(): number {
    return drawn(this.#parts.times.message, this.#parts.random);
  }

  #connectAfter(us: number, life: Life): void {
    const { tpu } = life;
    this.process.after(us, () => {
      const { state, isOver } = this.#driver;
      if (isOver || !this.#workers.isLedBy(this) || !isVacant(state, tpu)) return;
      if (this.process.isCutOff) this.#connectAfter(retryUs, life);
      else if (this.#workers.of(tpu) === life) {
        this.#links[tpu] = this.#workers.connect(life, this, state.generation);
      } else if (this.#workers.of(tpu) === undefined) {
        this.#startAfter(this.#parts.times.start, tpu, null);
      }
    });
  }

  #startAfter(range: Range, tpu: number, host: number | null): void {
    this.process.after(drawn(range, this.#parts.random), () => {
      const { state, isOver } = this.#driver;
      // The Cloud TPU needs no replacement any more if another worker has adopted it meanwhile.
      const isNeeded = isVacant(state, tpu) || at(state.members, tpu).host === host;
      const isFree = this.#links[tpu] === undefined && this.#workers.of(tpu) === undefined;
      if (isOver || !isNeeded || !isFree || !this.#workers.isLedBy(this)) return;
      if (host !== null && !this.#isHere(host)) return;
      this.#links[tpu] = this.#workers.start(tpu, host, this, state.generation);
    });
  }

  /** True if the worker of a Cloud TPU lives and has a connection with this master. */
  #isHere(tpu: number): boolean {
    const link = this.#links[tpu];
    return link !== undefined && !link.life.isOver && this.#workers.isCurrent(link);
  }

  reported(link: MasterLink, report: WorkerReport): void {
    const { tpu } = link.life;
    this.process.run(() => {
      if (this.#links[tpu] !== link) return;
      this.#parts.log({ event: 'reported', tpu, report });
      this.#give(checked(report));
    });
  }

  left(link: MasterLink): void {
    const { tpu } = link.life;
    const reason = 'the connection of the worker was closed';
    this.reported(link, { kind: 'exited', tpu, reason, code: null });
  }

  // ---------------------------------------------------------------------------------------- crew

  send(tpu: number, message: ToWorker): void {
    const link = this.#links[tpu];
    if (link !== undefined) this.process.run(() => this.#workers.send(link, message));
  }

  refused(message: FromWorker, reason: string): void {
    this.#parts.log({ event: 'refused', message, reason });
  }

  abort(): void {
    // Nothing to do, because simulated workers share no memory. Their steps are interrupted by the
    // message `abort`, which the master sends to each of them.
  }

  /**
   * Ends the worker of a lost Cloud TPU and starts another. There are two exceptions. If a newer
   * master leads the workers, the worker is left to that master. If this master is cut off, the
   * worker may still be alive, so this master tries later to connect with it again.
   */
  replace(tpu: number): void {
    const link = this.#links[tpu];
    this.#links[tpu] = undefined;
    if (!this.#workers.isLedBy(this)) return;
    const life = this.#workers.of(tpu);
    if (this.process.isCutOff && life !== undefined && life === link?.life && life.host === null) {
      this.#connectAfter(retryUs, life);
      return;
    }
    this.#workers.end(tpu);
    this.#startAfter(this.#parts.times.replace, tpu, null);
  }

  adopt(tpu: number, host: number): void {
    this.#links[tpu] = undefined;
    if (!this.#workers.isLedBy(this)) return;
    this.#workers.end(tpu);
    this.#startAfter(this.#parts.times.message, tpu, host);
  }

  reset(): void {
    // Nothing to do: each worker empties its links when it loads the programs for a new membership.
  }

  release(): void {
    // Nothing to do: simulated workers have no queue of infeed data.
  }

  restore(tpu: number, from: number, steps: readonly number[]): Promise<void> {
    const [taker, source] = [this.#links[tpu]?.life, this.#links[from]?.life];
    const { generation } = this.#driver.state;
    return new Promise((resolve) => {
      if (taker === undefined || source === undefined) return;
      taker.takeParameters(source, generation, steps, () => {
        this.process.run(() => {
          this.#parts.waiting.touch();
          resolve();
        });
      });
    });
  }

  async rollBack(saved: readonly (SavedParameters | undefined)[]): Promise<void> {
    const { generation } = this.#driver.state;
    await this.#pass(this.#parts.times.copy);
    if (generation !== this.#driver.state.generation) return;
    saved.forEach((it, program) => {
      if (it === undefined) return;
      for (const { cores } of this.#lives) cores.weights.write(program, it.steps, it.values);
    });
  }

  /** Resolves after `us` microseconds of virtual time. */
  #pass(us: number): Promise<void> {
    return new Promise((resolve) => {
      this.process.after(us, () => {
        this.#parts.waiting.touch();
        resolve();
      });
    });
  }
}

/** Checks the fields of a worker's message, as a master does if the worker is another process. */
function checked(event: WorkerReport): MasterEvent {
  if (event.kind === 'exited') return event;
  return { kind: 'message', message: checkFromWorker(event.message) };
}
