import type { IciPort, InfeedPort, OutfeedPort } from '../../src/chip/ports.ts';
import type { InfeedQueue } from '../../src/data/infeed.ts';
import type { AllReduce, BucketPlace } from '../../src/fabric/all-reduce.ts';
import { Doorbell } from '../../src/fabric/doorbell.ts';
import { type FabricLayout, sharedLine } from '../../src/fabric/fabric-memory.ts';
import type { Executable } from '../../src/isa/executable.ts';
import { assert, at } from '../../src/numerics/assert.ts';
import { PodError } from '../../src/numerics/error.ts';
import { byteCount } from '../../src/numerics/shape.ts';
import { controlWords } from './layout.ts';

/** Writer of a Cloud TPU's control line in the shared memory. Used by the thread of its cores. */
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
 * A doorbell that increments the progress counter while the worker waits for its neighbours. A
 * worker that only waits is not suspected.
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
 * Interface through which the cores run all-reduces: on their own thread (AllReduce) or in an
 * engine on another thread (EngineClient).
 */
export type Reducer = Pick<AllReduce, 'start' | 'progress' | 'finish'>;

/** Returns the places of a program's buckets, for an arena at byte address `arena`. */
export function bucketPlaces(executable: Executable, arena: number): BucketPlace[] {
  return executable.buckets.map(({ buffer, elements }) => {
    const { offset, stride, copies, name } = at(executable.buffers, buffer);
    assert(copies === 'chip', `bucket ${name} is ${copies}, not one a chip`);
    return { address: arena + offset, stride, elements };
  });
}

/**
 * Returns the ICI port of one program. The fabric numbers the buckets of all programs in sequence;
 * `firstBucket` is the number of this program's bucket 0. `finish` throws `link-timeout` after
 * `waitMsLimit`.
 */
export function iciPort(
  allReduce: () => Reducer,
  firstBucket: number,
  now: () => number,
  waitMsLimit: number,
): IciPort {
  return {
    start: (bucket) => allReduce().start(firstBucket + bucket),
    progress: () => allReduce().progress(),
    finish: (bucket) => allReduce().finish(firstBucket + bucket, now() + waitMsLimit),
  };
}

/** An infeed port with a call at the start of each step. */
export interface StepInfeed extends InfeedPort {
  /** Begins a step, numbered as the program's steps are. */
  begin(step: number): void;
}

/** Constructor arguments of a {@link QueueInfeed}. */
export interface QueueInfeedParts {
  readonly executable: Executable;
  readonly queue: InfeedQueue;
  readonly heartbeat: Heartbeat;
  readonly words: Int32Array;
  /**
   * Byte address of the word that holds the step of the program that corresponds to step 0 of the
   * queue.
   */
  readonly base: number;
  readonly waitMsLimit: number;
}

/**
 * The infeed port of one program, which reads from a queue. The first access in a step waits until
 * the loader has filled the slot of the step. The slot stays full until the step is committed; the
 * driver of the master's state machine then has it released.
 */
export class QueueInfeed implements StepInfeed {
  readonly #parts: QueueInfeedParts;
  /** By element of the infeed: byte offset in a slot. */
  readonly #starts: readonly number[];
  /** By element of the infeed: bytes for one core. */
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

/** Infeed port of a program without an infeed; any access fails. */
export const noInfeed: StepInfeed = {
  begin: () => undefined,
  address: () => assert(false, 'a program without an infeed asks for it') as never,
  release: () => undefined,
};

/**
 * Collects the outfeed of a step. Each entry of `elements` holds the copies of all cores in core
 * order, or a single copy if the element is the same on all cores.
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
