import type { Docker } from './docker.ts';
import {
  type Action,
  actionsBetween,
  type ContainerState,
  type Hold,
  sound,
  stateUnder,
} from './holds.ts';

/** A container of a pod, as Docker describes it. */
export interface PodContainer {
  readonly id: string;
  /** Service of the compose file: `master`, `tpu` or `spare`. */
  readonly service: string;
  /** Names of the container in its networks, by the name of the network. */
  readonly aliases: Readonly<Record<string, readonly string[]>>;
}

/** A container to which faults are applied, one Docker command after another. */
export class HeldContainer {
  readonly it: PodContainer;
  readonly #docker: Docker;
  /** The faults that apply now: the index in the plan, and what the fault does. */
  readonly #holds: Map<number, Hold> = new Map();
  #state: ContainerState = sound;
  /** Resolves when all commands so far have ended. */
  #work: Promise<void> = Promise.resolve();

  constructor(it: PodContainer, docker: Docker) {
    this.it = it;
    this.#docker = docker;
  }

  /** True if a fault has killed the container and it has not been started again. */
  get isDown(): boolean {
    return !this.#state.runs || [...this.#holds.values()].includes('down');
  }

  /** Applies the fault with this index. Resolves when it has taken effect. */
  hold(index: number, hold: Hold): Promise<void> {
    this.#holds.set(index, hold);
    return this.#bring();
  }

  /** Lifts the fault with this index. Other faults still apply. */
  lift(index: number): Promise<void> {
    this.#holds.delete(index);
    return this.#bring();
  }

  /** Resolves when no command is under way. An error of a command is not thrown here. */
  async settled(): Promise<void> {
    await this.#work.catch(() => undefined);
  }

  /** Brings the container to the state that follows from all faults that apply now. */
  #bring(): Promise<void> {
    this.#work = this.#work.then(async () => {
      const target = stateUnder([...this.#holds.values()]);
      for (const action of actionsBetween(this.#state, target)) await this.#act(action);
      this.#state = target;
    });
    return this.#work;
  }

  async #act(action: Action): Promise<void> {
    const { id, aliases } = this.it;
    if (action !== 'connect' && action !== 'disconnect') {
      await this.#docker.run([action, id]);
      return;
    }
    for (const [network, names] of Object.entries(aliases)) {
      const words = action === 'connect' ? names.flatMap((name) => ['--alias', name]) : [];
      await this.#docker.run(['network', action, ...words, network, id]);
    }
  }
}
