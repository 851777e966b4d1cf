import { Collectives } from '../../src/fabric/collectives.ts';
import { EngineDoorbell } from '../../src/fabric/engine.ts';
import type { OnHop } from '../../src/fabric/lane.ts';
import type { Links } from '../../src/fabric/link.ts';
import { at } from '../../src/numerics/assert.ts';
import type { PodError } from '../../src/numerics/error.ts';
import { Pump } from '../net/pump.ts';
import { colours } from '../net/route.ts';
import { LocalLink } from './local-link.ts';
import type { PodMemory } from './memory.ts';

/**
 * The links of one simulated Cloud TPU for one membership, and the all-reduces over them. The code
 * of the lanes, frames, checks and credits is the same as in a pod of processes. Only the
 * connections, which carry the bytes, are simulated.
 */
export class SimulatedIci {
  readonly tpu: number;
  /**
   * Number of the Cloud TPU on whose machine the worker runs. It is `tpu` itself unless another
   * worker has adopted this Cloud TPU.
   */
  readonly site: number;
  readonly generation: number;
  readonly pump: Pump;
  readonly #allReduce: Collectives;
  /** Returns the virtual time in ms. */
  readonly #nowMs: () => number;
  /** Error that an all-reduce has thrown; undefined if it has thrown none. */
  #error: unknown;
  /** Virtual time, in ms, at which `standStill` was called; undefined while the all-reduces run. */
  #stillSinceMs: number | undefined;
  /**
   * Total length of all earlier pauses, in ms of virtual time. A pause lasts from `standStill` to
   * `goOn`.
   */
  #stillMs = 0;
  #isOver = false;

  constructor(
    memory: PodMemory,
    { tpu, site }: { readonly tpu: number; readonly site: number },
    generation: number,
    onHop: OnHop | undefined,
    nowMs: () => number,
  ) {
    const { torus, kernels, sizes, control } = memory;
    const { hosting, buckets, pump: layout } = at(memory.tpus, tpu);
    this.tpu = tpu;
    this.site = site;
    this.generation = generation;
    this.#nowMs = nowMs;
    this.pump = new Pump({
      ...{ memory: memory.memory, hosting, sizes, kernels, generation, layout },
      shares: false,
      unshared: () => undefined,
    });
    this.#allReduce = new Collectives({
      ...{ torus, worker: tpu, generation, kernels, collectives: buckets },
      links: this.pump.links(localLinks()),
      doorbell: new EngineDoorbell(memory.memory, control, tpu),
      frameElements: sizes.frameElements,
      // This clock measures how long the all-reduces wait for neighbours. During a pause the worker
      // itself is the reason why nothing moves, so the clock stands still.
      now: () => (this.#stillSinceMs ?? nowMs()) - this.#stillMs,
      idleMsMax: Number.POSITIVE_INFINITY,
      ...(onHop && { onHop }),
    });
    this.pump.drive({ progress: () => this.#progress() });
    this.pump.start();
  }

  /** True if the Cloud TPU has left the membership. */
  get isOver(): boolean {
    return this.#isOver;
  }

  /** Error that ended the all-reduces of this membership; undefined if there is none. */
  get error(): unknown {
    return this.#error;
  }

  /** Starts the all-reduce of a bucket. */
  start(bucket: number): void {
    this.#allReduce.start(bucket);
  }

  /**
   * Returns how long the lanes waited for frames in the last step, in ms of virtual time: one entry
   * for each link that enters the Cloud TPU. Call once after each step.
   */
  takeWaits(): number[] {
    return this.#allReduce.takeWaits();
  }

  isDone(bucket: number): boolean {
    return this.#allReduce.isDone(bucket);
  }

  /** Returns the error for a bucket whose sum is late. The error names the links that block it. */
  timeout(bucket: number): PodError {
    return this.#allReduce.timeout(bucket);
  }

  /**
   * Call once a second. Tells the peers that the worker lives. Returns the peers from which nothing
   * has arrived during many calls. Calls during which a peer has no connection count only if an
   * all-reduce is under way.
   */
  beat(): readonly number[] {
    return this.pump.beat(this.#allReduce.isBusy);
  }

  /** Makes all hops that are possible now. */
  poke(): void {
    this.pump.poke();
  }

  /**
   * Stops the all-reduces until `goOn` is called. Frames still arrive, but only as many as their
   * senders have credits for.
   */
  standStill(): void {
    this.#stillSinceMs ??= this.#nowMs();
  }

  goOn(): void {
    if (this.#stillSinceMs !== undefined) this.#stillMs += this.#nowMs() - this.#stillSinceMs;
    this.#stillSinceMs = undefined;
    this.#error = undefined;
    this.poke();
  }

  /** Leaves the membership. */
  leave(): void {
    this.#isOver = true;
    this.pump.stop();
  }

  #progress(): void {
    if (this.#stillSinceMs !== undefined || this.#error !== undefined) return;
    try {
      this.#allReduce.progress();
    } catch (error) {
      this.#error = error;
    }
  }
}

/**
 * Returns the links from a Cloud TPU to itself. There are such links if the torus has only one
 * Cloud TPU along an axis. Each link has one queue for each colour, made at its first use.
 */
function localLinks(): Links {
  const links = new Map<number, LocalLink>();
  const linkOf = (link: number, colour: number): LocalLink => {
    const queue = link * colours + colour;
    const known = links.get(queue) ?? new LocalLink();
    links.set(queue, known);
    return known;
  };
  return { out: linkOf, in: linkOf };
}
