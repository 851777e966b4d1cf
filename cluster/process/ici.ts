import { AllReduce } from '../../src/fabric/all-reduce.ts';
import { Engine, EngineDoorbell } from '../../src/fabric/engine.ts';
import { sumKernels } from '../../src/fabric/kernels/sum.ts';
import { memoryLinks } from '../../src/fabric/memory-link.ts';
import { Pump } from '../net/pump.ts';
import type { Hosting } from '../net/route.ts';
import type { ProcessLayout } from './layout.ts';

export interface IciParts {
  readonly memory: WebAssembly.Memory;
  readonly layout: Pick<ProcessLayout, 'fabric' | 'engine' | 'buckets' | 'pump' | 'frameSizes'>;
  readonly hosting: Hosting;
  readonly generation: number;
  /** As of {@link PumpParts}. */
  readonly shares: boolean;
  readonly unshared: (peer: number, cause: string) => void;
}

/**
 * The network of one Cloud TPU for one membership: its links and the engine that sums over them, on
 * the main thread of its process, where the sockets are. A frame that comes in is summed and passed
 * on at once, without waking anybody; the thread of the cores is woken when a bucket is done.
 */
export class Ici {
  readonly pump: Pump;
  readonly #engine: Engine;
  #isRunning = false;

  constructor({ memory, layout, hosting, generation, shares, unshared }: IciParts) {
    const { fabric, engine, buckets, frameSizes: sizes } = layout;
    const kernels = sumKernels(memory);
    const { torus, self } = hosting;
    this.pump = new Pump({
      ...{ memory, hosting, sizes, kernels, generation, shares, unshared },
      layout: layout.pump,
    });
    const doorbell = new EngineDoorbell(memory, fabric, self);
    const allReduce = new AllReduce({
      ...{ torus, worker: self, generation, doorbell, buckets, kernels },
      links: this.pump.links(memoryLinks(memory, fabric, torus, doorbell)),
      frameElements: sizes.frameElements,
      // Nobody waits on this thread.
      now: () => 0,
    });
    this.#engine = new Engine(memory, engine, allReduce, doorbell);
    this.pump.drive(this.#engine);
  }

  start(): void {
    this.#isRunning = true;
    this.pump.start();
    void this.#serve();
  }

  /** Does not touch the memory again. */
  stop(): void {
    this.#isRunning = false;
    this.pump.stop();
    const { words, index } = this.#engine.bell;
    Atomics.store(words, index, 0);
    Atomics.notify(words, index);
  }

  /** Gives shared memory back, once it has stopped and its connections are closed. */
  close(): void {
    this.pump.close();
  }

  /** Hears the worker, asleep while it says nothing. */
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

const asleep = 1;

/** ES2024: like `Atomics.wait`, for a thread that must not block. */
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
