import { type Fault, isMasterFault } from '../../src/fault/plan.ts';
import { at, unreachable } from '../../src/numerics/assert.ts';
import { PodError } from '../../src/numerics/error.ts';
import { quote } from '../../src/numerics/quote.ts';
import type { Docker } from './docker.ts';
import { HeldContainer, type PodContainer } from './held-container.ts';
import type { Hold } from './holds.ts';
import {
  answerRequest,
  isOutside,
  newRequests,
  type OutsideFault,
  type Request,
} from './request.ts';

/**
 * Time, in ms, from the kill of a container to its new start. `pod chaos run` starts the container
 * again, as an orchestrator would.
 */
export const restartMs = 500;

/** Constructor arguments of {@link ContainerFaults}. */
export interface ContainerFaultsOptions {
  readonly docker: Docker;
  readonly containers: readonly PodContainer[];
  readonly faults: readonly Fault[];
  /** Folder that the containers share with the command `pod chaos run`. */
  readonly folder: string;
}

/**
 * Injects the faults for which workers ask, with Docker, and lifts each of them when its time is
 * over.
 */
export class ContainerFaults {
  readonly #options: ContainerFaultsOptions;
  readonly #held: readonly HeldContainer[];
  /** Indices of the faults that were asked for. */
  readonly #known: Set<number> = new Set();
  readonly #timers: Set<NodeJS.Timeout> = new Set();
  #failure: unknown;
  #isEnded = false;

  constructor(options: ContainerFaultsOptions) {
    this.#options = options;
    this.#held = options.containers.map((it) => new HeldContainer(it, options.docker));
  }

  /** Begins to inject the faults that were asked for since the last call. */
  look(): void {
    if (this.#isEnded) return;
    for (const request of newRequests(this.#options.folder, this.#known)) {
      this.#known.add(request.index);
      void this.#attempt(() => this.#inject(request));
    }
  }

  /** Throws the first error of an injection, if there was one. */
  check(): void {
    if (this.#failure !== undefined) throw this.#failure;
  }

  /** The container of the master. */
  get master(): PodContainer {
    return this.#master.it;
  }

  /** True while the master's container is down because of a fault. */
  get isMasterDown(): boolean {
    return this.#master.isDown;
  }

  /** Injects and lifts nothing more. Resolves when the last Docker command has ended. */
  async end(): Promise<void> {
    this.#isEnded = true;
    for (const timer of this.#timers) clearTimeout(timer);
    await Promise.all(this.#held.map((it) => it.settled()));
  }

  get #master(): HeldContainer {
    const found = this.#held.find(({ it }) => it.service === 'master');
    if (found === undefined)
      throw new PodError('io', 'docker: expected a container of the master, found none');
    return found;
  }

  async #inject({ index, host }: Request): Promise<void> {
    const { faults, folder } = this.#options;
    const fault = faults[index];
    if (fault === undefined || !isOutside(fault)) {
      throw new PodError('io', `ask-${index}: expected a fault that Docker injects, found none`);
    }
    const target = isMasterFault(fault) ? this.#master : this.#workerOn(host);
    await target.hold(index, holdOf(fault));
    answerRequest(folder, index);
    const lasts = lastsMs(fault);
    if (!this.#isEnded && lasts !== undefined) this.#later(lasts, () => target.lift(index));
  }

  #workerOn(host: string): HeldContainer {
    const found = this.#held.filter(({ it }) => host.length >= 12 && it.id.startsWith(host));
    if (found.length === 1) return at(found, 0);
    throw new PodError('io', `expected the id of a container of this pod, found ${quote(host)}`);
  }

  #later(ms: number, work: () => Promise<void>): void {
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      void this.#attempt(work);
    }, ms);
    this.#timers.add(timer);
  }

  /** Does some work and keeps its error for `check`. After `end`, errors are dropped. */
  async #attempt(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      if (!this.#isEnded) this.#failure ??= error;
    }
  }
}

function holdOf({ fault }: OutsideFault): Hold {
  switch (fault) {
    case 'kill':
    case 'master-kill':
      return 'down';
    case 'pause':
    case 'master-pause':
      return 'paused';
    case 'partition':
    case 'master-cut-off':
      return 'cut';
    default:
      return unreachable(fault);
  }
}

/** Returns how long a fault lasts, in ms; undefined for a fault that lasts until the end. */
function lastsMs(fault: OutsideFault): number | undefined {
  if (holdOf(fault) === 'down') return restartMs;
  return 'for' in fault ? fault.for?.ms : undefined;
}
