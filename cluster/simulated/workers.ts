import type { Topology } from '../../src/fabric/torus.ts';
import { dueAt } from '../../src/fault/injector.ts';
import type { Fault } from '../../src/fault/plan.ts';
import type { MasterEvent } from '../../src/pod/master/event.ts';
import type { ToWorker } from '../../src/pod/messages.ts';
import type { Agenda } from './agenda.ts';
import { Cores, type CoresOptions } from './cores.ts';
import type { Happening } from './event.ts';
import { Life } from './life.ts';
import type { Network } from './network.ts';
import type { Process } from './process.ts';
import type { SimulatedTimes } from './times.ts';

/** What a master learns about a worker: the worker has sent a message, or has ended. */
export type WorkerReport = MasterEvent & { readonly kind: 'message' | 'exited' };

/** A master as the workers see it. */
export interface Leader {
  readonly process: Process;
  /** Number of the master, from 1. A later master has a higher number. */
  readonly number: number;
  /** Called when the master learns that a worker has sent a message or has died. */
  reported(link: MasterLink, report: WorkerReport): void;
  /** Called when this master learns that the worker has connected with another master. */
  left(link: MasterLink): void;
}

/** Connection of a worker with a master. */
export class MasterLink {
  readonly life: Life;
  readonly master: Leader;

  constructor(life: Life, master: Leader) {
    this.life = life;
    this.master = master;
  }

  /** Number of the Cloud TPU on whose machine the worker runs. */
  get site(): number {
    return this.life.site;
  }

  /** True while the master is cut off: no message passes between the master and any worker. */
  get isCutOff(): boolean {
    return this.master.process.isCutOff;
  }
}

/** Parts that all workers of a slice have in common. */
export interface WorkersParts {
  readonly topology: Topology;
  readonly faults: readonly Fault[];
  readonly cores: CoresOptions;
  readonly agenda: Agenda;
  readonly network: Network;
  readonly times: SimulatedTimes;
  readonly log: (event: Happening) => void;
}

/**
 * Workers of a simulated slice. When a master ends, its workers live on: each keeps its weights and
 * connects with the next master.
 */
export class Workers {
  readonly #parts: WorkersParts;
  /**
   * Worker of each Cloud TPU, indexed by the number of the Cloud TPU. Undefined until the first
   * worker has started, and again from the loss of a worker until its replacement has started.
   */
  readonly #lives: (Life | undefined)[];
  /** The newest connection of each worker. */
  readonly #links: WeakMap<Life, MasterLink> = new WeakMap();
  /** The master that began last. Only this master starts and ends workers. */
  #leader: Leader | undefined;

  constructor(parts: WorkersParts) {
    this.#parts = parts;
    const { columns, rows } = parts.topology;
    this.#lives = Array.from({ length: columns * rows }, () => undefined);
  }

  /**
   * Makes `master` the leader, which starts and ends workers. Does nothing if a later master leads.
   */
  follow(master: Leader): void {
    if (master.number > (this.#leader?.number ?? 0)) this.#leader = master;
  }

  isLedBy(master: Leader): boolean {
    return this.#leader === master;
  }

  /** Number of Cloud TPUs. */
  get count(): number {
    return this.#lives.length;
  }

  /** Returns the worker of a Cloud TPU; undefined if there is none or it has ended. */
  of(tpu: number): Life | undefined {
    const life = this.#lives[tpu];
    return life?.isOver ? undefined : life;
  }

  /** True if the connection is the newest one of its worker. */
  isCurrent(link: MasterLink): boolean {
    return this.#links.get(link.life) === link;
  }

  /** Starts a worker and connects it with `master`, which must be the leader. */
  start(tpu: number, host: number | null, master: Leader, generation: number): MasterLink {
    const { faults, topology, agenda, network, times, log } = this.#parts;
    const cores = new Cores(tpu, host ?? tpu, this.#parts.cores, dueAt(tpu, faults, topology));
    const sources = this.#parts.cores.programs.map(({ parametersFrom }) => parametersFrom);
    const parts = { tpu, host, cores, agenda, network, times, sources };
    const life: Life = new Life(parts, {
      send: (message) => this.#report(life, { kind: 'message', message }),
      died: (reason, code) => {
        this.#endGuests(tpu);
        this.#report(life, { kind: 'exited', tpu, reason, code });
      },
    });
    this.#lives[tpu] = life;
    const link = new MasterLink(life, master);
    this.#links.set(life, link);
    log({ event: 'started', tpu, host });
    life.start(generation);
    return link;
  }

  /**
   * Connects a worker with `master`, to which the worker then reports its state. If the worker was
   * connected with another master before, that master learns that the worker has left.
   */
  connect(life: Life, master: Leader, generation: number): MasterLink {
    const before = this.#links.get(life);
    const link = new MasterLink(life, master);
    this.#links.set(life, link);
    this.#endGuests(life.tpu);
    if (before !== undefined && before.master !== master) {
      this.#parts.network.send(before, 'toMaster', () => before.master.left(before));
    }
    this.#parts.log({ event: 'connected', tpu: life.tpu });
    life.greet(generation);
    return link;
  }

  /**
   * Sends a message to a worker. The message is lost if the worker ends, or connects with another
   * master, before the message arrives.
   */
  send(link: MasterLink, message: ToWorker): void {
    const { life } = link;
    this.#parts.network.send(link, 'toWorker', () => {
      if (life.isOver || !this.isCurrent(link)) return;
      this.#parts.log({ event: 'delivered', tpu: life.tpu, message });
      life.receive(message);
    });
  }

  /** Ends the worker of a Cloud TPU, if there is one, because another will replace it. */
  end(tpu: number): void {
    const life = this.#lives[tpu];
    if (life === undefined) return;
    this.#parts.log({ event: 'ended', tpu });
    this.#lives[tpu] = undefined;
    life.end();
    this.#endGuests(tpu);
  }

  /** Ends all workers. */
  endAll(): void {
    for (const life of this.#lives) life?.end();
  }

  /**
   * Called when the master whose process is `process` has ended. Some of its workers may run on the
   * machine of another Cloud TPU, because this master has asked for it. Ends these workers.
   */
  endGuestsOf(process: Process): void {
    for (const life of this.#lives) {
      if (life === undefined || life.host === null) continue;
      if (this.#links.get(life)?.master.process === process) life.end();
    }
  }

  /**
   * Ends the workers of all Cloud TPUs that the worker of Cloud TPU `host` has adopted. Called when
   * the worker of `host` has ended or connects with a master again.
   */
  #endGuests(host: number): void {
    for (const life of this.#lives) if (life?.host === host) life.end();
  }

  #report(life: Life, report: WorkerReport): void {
    const link = this.#links.get(life);
    if (link === undefined) return;
    this.#parts.network.send(link, 'toMaster', () => link.master.reported(link, report));
  }
}
