import type { IciPort, InfeedPort, OutfeedPort } from '../../src/chip/ports.ts';
import type { InfeedQueue } from '../../src/data/infeed.ts';
import type { Collectives } from '../../src/fabric/collectives.ts';
import { Doorbell } from '../../src/fabric/doorbell.ts';
import { type FabricLayout, sharedLine } from '../../src/fabric/fabric-memory.ts';
import type { Executable } from '../../src/isa/executable.ts';
import { assert, at } from '../../src/numerics/assert.ts';
import { PodError } from '../../src/numerics/error.ts';
import { byteCount } from '../../src/numerics/shape.ts';
import { controlWords } from './layout.ts';

/**
 * Access to a Cloud TPU's control line (progress counter and infeed flag) in the shared memory, for
 * the thread of the Cloud TPU's cores.
 */
export class Heartbeat {
  readonly #words: Int32Array;
  readonly #line: number;
  readonly #abort: number;

  constructor(memory: WebAssembly.Memory, control: number, fabric: FabricLayout) {
    this.#words = new Int32Array(memory.buffer);
    this.#line = control / 4;
    this.#abort = sharedLine(fabric) / 4;
  }

  /** Increments the progress counter. */
  beat(): void {
    Atomics.add(this.#words, this.#line + controlWords.progress, 1);
  }

  /** True if the master has ended the step. */
  get isAborted(): boolean {
    return Atomics.load(this.#words, this.#abort) !== 0;
  }

  /**
   * Increments the progress counter in the middle of a step. Throws `link-timeout` if the master
   * has ended the step.
   */
  beatInStep(): void {
    this.beat();
    if (this.isAborted) throw new PodError('link-timeout', 'the step was ended by the master');
  }

  /** Records whether the cores wait for the infeed. */
  awaitsInfeed(waits: boolean): void {
    Atomics.store(this.#words, this.#line + controlWords.awaitsInfeed, waits ? 1 : 0);
  }
}

/**
 * A {@link Doorbell}, on which a worker sleeps until a neighbour wakes it. A LiveDoorbell sleeps at
 * most `sleepMsMax` ms at a time and increments the progress counter before and after each sleep.
 * So the master does not suspect a worker that only waits for its neighbours.
 */
export class LiveDoorbell extends Doorbell {
  readonly #heartbeat: Heartbeat;

  constructor(
    memory: WebAssembly.Memory,
    layout: FabricLayout,
    worker: number,
    heartbeat: Heartbeat,
  ) {
    super(memory, layout, worker);
    this.#heartbeat = heartbeat;
  }

  override sleep(timeoutMs: number): void {
    this.#heartbeat.beat();
    super.sleep(Math.min(timeoutMs, sleepMsMax));
    this.#heartbeat.beat();
  }
}

/** Longest sleep in ms before a waiting worker increments its progress counter again. */
const sleepMsMax = 200;

/**
 * Functions by which the cores run all-reduces. In an Collectives, the thread of the cores runs them
 * itself. In an EngineClient, another thread, the engine, runs them.
 */
export type Reducer = Pick<Collectives, 'start' | 'progress' | 'finish' | 'takeWaits'>;

/**
 * Returns the ICI port of one program, through which the cores start and finish collectives. The
 * port is called with the number of a collective among those of this program. `Collectives` needs
 * the number among the collectives of all programs, where the first of this program has the number
 * `first`. `finish` throws `link-timeout` if the collective is not done after `waitMsLimit` ms.
 */
export function iciPort(
  allReduce: () => Reducer,
  first: number,
  now: () => number,
  waitMsLimit: number,
): IciPort {
  return {
    start: (collective) => allReduce().start(first + collective),
    progress: () => allReduce().progress(),
    finish: (collective) => allReduce().finish(first + collective, now() + waitMsLimit),
  };
}

/** An infeed port that must be told the index of each step before the step starts. */
export interface StepInfeed extends InfeedPort {
  /** Begins a step. `step` is the index of the step among the steps of the program. */
  begin(step: number): void;
}

/** Constructor arguments of a {@link QueueInfeed}. */
export interface QueueInfeedParts {
  readonly executable: Executable;
  readonly queue: InfeedQueue;
  readonly heartbeat: Heartbeat;
  readonly words: Int32Array;
  /**
   * Byte address of a word. The word holds the first step of the program that was loaded since the
   * queue was last emptied. In the queue, the number of a step is its distance from this first
   * step.
   */
  readonly base: number;
  readonly waitMsLimit: number;
}

/**
 * The infeed port of one program, which reads from a queue with a slot for each step. The first
 * read in a step waits until the loader has filled the slot of this step. The slot is freed when
 * the master commits the step, not by the port.
 */
export class QueueInfeed implements StepInfeed {
  readonly #parts: QueueInfeedParts;
  /** For each element of the infeed: its byte offset in a slot. */
  readonly #starts: readonly number[];
  /** For each element of the infeed: its length for one core, in bytes. */
  readonly #bytes: readonly number[];
  #step = 0;
  #slot: number | undefined;

  constructor(parts: QueueInfeedParts) {
    this.#parts = parts;
    const { infeed, cores } = parts.executable;
    this.#bytes = infeed.map(byteCount);
    let end = 0;
    this.#starts = this.#bytes.map((bytes) => {
      const start = end;
      end += bytes * cores;
      return start;
    });
  }

  begin(step: number): void {
    this.#step = step;
    this.#slot = undefined;
  }

  address(element: number, core: number): number {
    this.#slot ??= this.#wait();
    return this.#slot + at(this.#starts, element) + core * at(this.#bytes, element);
  }

  release(): void {
    this.#slot = undefined;
  }

  #wait(): number {
    const { queue, heartbeat, words, base, waitMsLimit } = this.#parts;
    const step = this.#step - Atomics.load(words, base / 4);
    heartbeat.awaitsInfeed(true);
    try {
      const slot = queue.consume(step, waitMsLimit, 'data loader');
      if (slot === undefined) throw new PodError('worker-silent', 'the infeed was stopped');
      return slot;
    } finally {
      heartbeat.awaitsInfeed(false);
    }
  }
}

/** Infeed port of a program without an infeed. Any read of the infeed fails an assertion. */
export const noInfeed: StepInfeed = {
  begin: () => undefined,
  address: () => assert(false, 'a program without an infeed asks for it') as never,
  release: () => undefined,
};

/**
 * Collects the outfeed of a step. Each entry of `elements` is one element of the outfeed. An entry
 * has the copies of all cores, in core order, or one copy if the element is the same on all cores.
 */
export class GatheredOutfeed implements OutfeedPort {
  readonly elements: readonly Uint8Array[];
  readonly #bytes: Uint8Array;

  constructor(executable: Executable, memory: WebAssembly.Memory) {
    this.#bytes = new Uint8Array(memory.buffer);
    this.elements = executable.outfeed.map(({ shape, copies }) => {
      return new Uint8Array(byteCount(shape) * (copies === 'core' ? executable.cores : 1));
    });
  }

  send(element: number, core: number, address: number, bytes: number): void {
    const target = at(this.elements, element);
    for (let i = 0; i < bytes; i++) target[core * bytes + i] = this.#bytes[address + i]!;
  }
}
