import { Collectives } from '../../src/fabric/collectives.ts';
import { Engine, EngineDoorbell } from '../../src/fabric/engine.ts';
import { sumKernels } from '../../src/fabric/kernels/sum.ts';
import type { OnHop } from '../../src/fabric/lane.ts';
import { memoryLinks } from '../../src/fabric/memory-link.ts';
import { Pump } from '../net/pump.ts';
import type { Hosting } from '../net/route.ts';
import { beatMs } from '../net/trouble.ts';
import type { ProcessLayout } from './layout.ts';

/**
 * Time, in ms, after which a timer calls the engine again while an all-reduce is under way, even if
 * no frame arrives. If much more time passes between two calls, the timer could not run, so the
 * whole process was paused. Such a pause is no wait for other Cloud TPUs.
 */
const pollMs = 20;
/**
 * At most this many ms between two calls of the engine count as a wait for other Cloud TPUs. If
 * more time passes, the rest counts as a pause of the process.
 */
const idleMsMax = 25;

/** Constructor arguments of an {@link Ici}. */
export interface IciParts {
  readonly memory: WebAssembly.Memory;
  readonly layout: Pick<ProcessLayout, 'fabric' | 'engine' | 'collectives' | 'pump' | 'frameSizes'>;
  readonly hosting: Hosting;
  readonly generation: number;
  /** True if payloads may go through shared memory to and from peers on this host. */
  readonly shares: boolean;
  /**
   * Called when shared memory with a peer on this host cannot be set up, so that payloads go
   * through a socket. `cause` is the reason.
   */
  readonly unshared: (peer: number, cause: string) => void;
  /** Called when nothing has arrived from a peer for longer than `silentMs`; once for each peer. */
  readonly silent: (peer: number) => void;
  /**
   * Called before each hop of an all-reduce, to inject faults. A hop receives a frame, sends a
   * frame, or does both. Undefined if no fault plan has a fault for this Cloud TPU.
   */
  readonly onHop?: OnHop;
}

/**
 * The ICI (inter-core interconnect) of one Cloud TPU for one membership: the links, and the engine
 * that runs all-reduces over them. Both run on the main thread of the process, where the sockets
 * are. The engine sums and forwards each frame as soon as it arrives. The cores run on another
 * thread, which the engine wakes only when all frames of a bucket of gradients are summed.
 */
export class Ici {
  readonly pump: Pump;
  readonly #engine: Engine;
  readonly #allReduce: Collectives;
  readonly #silent: (peer: number) => void;
  readonly #reported: Set<number> = new Set();
  #beats: NodeJS.Timeout | undefined;
  /** Timer that calls the engine again (see {@link pollMs}); undefined if no timer is set. */
  #poll: NodeJS.Timeout | undefined;
  #isRunning = false;

  constructor(parts: IciParts) {
    const { memory, layout, hosting, generation, shares, unshared, onHop } = parts;
    const { fabric, engine, collectives, frameSizes: sizes } = layout;
    const kernels = sumKernels(memory);
    const { torus, self } = hosting;
    this.#silent = parts.silent;
    this.pump = new Pump({
      ...{ memory, hosting, sizes, kernels, generation, shares, unshared },
      layout: layout.pump,
    });
    const doorbell = new EngineDoorbell(memory, fabric, self);
    const allReduce = new Collectives({
      ...{ torus, worker: self, generation, doorbell, collectives, kernels },
      links: this.pump.links(memoryLinks(memory, fabric, torus, doorbell)),
      frameElements: sizes.frameElements,
      now: () => performance.now(),
      idleMsMax,
      ...(onHop && { onHop }),
    });
    this.#allReduce = allReduce;
    this.#engine = new Engine(memory, engine, allReduce, doorbell);
    this.pump.drive({ progress: () => this.#progress() });
  }

  /**
   * Returns how long the Cloud TPU waited for frames since the last call, in ms, for each link that
   * enters it. Call only between steps.
   */
  takeWaits(): number[] {
    return this.#allReduce.takeWaits();
  }

  start(): void {
    this.#isRunning = true;
    this.pump.start();
    this.#beats = setInterval(() => this.#beat(), beatMs);
    void this.#serve();
  }

  /** Stops the engine and the links. After this call the ICI does not touch the memory again. */
  stop(): void {
    this.#isRunning = false;
    clearInterval(this.#beats);
    clearTimeout(this.#poll);
    this.pump.stop();
    const { words, index } = this.#engine.bell;
    Atomics.store(words, index, 0);
    Atomics.notify(words, index);
  }

  /** Frees the memory shared with peers. Call after `stop`, when all connections are closed. */
  close(): void {
    this.pump.close();
  }

  #progress(): void {
    this.#engine.progress();
    if (this.#poll === undefined && this.#allReduce.isBusy) this.#pollLater();
  }

  #pollLater(): void {
    this.#poll = setTimeout(() => {
      this.#poll = undefined;
      this.pump.poke();
    }, pollMs);
  }

  #beat(): void {
    for (const peer of this.pump.beat(this.#allReduce.isBusy)) {
      if (this.#reported.has(peer)) continue;
      this.#reported.add(peer);
      this.#silent(peer);
    }
  }

  /**
   * Runs the all-reduces that the worker starts. While there is nothing to do, sleeps on the
   * engine's bell, a word of shared memory by which the worker wakes the engine.
   */
  async #serve(): Promise<void> {
    const { words, index } = this.#engine.bell;
    while (this.#isRunning) {
      this.#engine.prepare();
      this.pump.poke();
      const wait = waitAsync(words, index, asleep);
      if (wait.async) await wait.value;
    }
  }
}

/**
 * Value of the engine's bell while the engine sleeps or is about to sleep. `asleep` in
 * src/fabric/engine.ts has the same value.
 */
const asleep = 1;

/** Type of `Atomics.waitAsync` [ES2024]: `Atomics.wait` for a thread that must not block. */
interface AsyncWaits {
  waitAsync(
    words: Int32Array,
    index: number,
    value: number,
  ):
    | { readonly async: false; readonly value: 'not-equal' | 'timed-out' }
    | { readonly async: true; readonly value: Promise<'ok' | 'timed-out'> };
}

const { waitAsync } = Atomics as unknown as AsyncWaits;
