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

/** A Cloud TPU's control line in the shared memory, as its worker writes it. */
export class Heartbeat {
  readonly #words: Int32Array;
  readonly #line: number;
  readonly #abort: number;

  constructor(memory: WebAssembly.Memory, control: number, fabric: FabricLayout) {
    this.#words = new Int32Array(memory.buffer);
    this.#line = control / 4;
    this.#abort = sharedLine(fabric) / 4;
  }

  /** A sign of life. */
  beat(): void {
    Atomics.add(this.#words, this.#line + controlWords.progress, 1);
  }

  /** Whether the master has ended the step. */
  get isAborted(): boolean {
    return Atomics.load(this.#words, this.#abort) !== 0;
  }

  /** A sign of life in a step. Throws when the master has ended it. */
  beatInStep(): void {
    this.beat();
    if (this.isAborted) throw new PodError('link-timeout', 'the step was ended by the master');
  }

  awaitsInfeed(waits: boolean): void {
    Atomics.store(this.#words, this.#line + controlWords.awaitsInfeed, waits ? 1 : 0);
  }
}

/** A doorbell that shows signs of life while its worker waits for others. */
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
    super.sleep(Math.min(timeoutMs, napMsMax));
    this.#heartbeat.beat();
  }
}

/** A wait shows a sign of life at least this often. */
const napMsMax = 200;

/** What runs all-reduces for the cores: on their own thread, or on another. */
export type Reducer = Pick<AllReduce, 'start' | 'progress' | 'finish'>;

/** Where the buckets of a program lie whose arena starts at byte address `arena`. */
export function bucketPlaces(executable: Executable, arena: number): BucketPlace[] {
  return executable.buckets.map(({ buffer, elements }) => {
    const { offset, stride, copies, name } = at(executable.buffers, buffer);
    assert(copies === 'chip', `bucket ${name} is ${copies}, not one a chip`);
    return { address: arena + offset, stride, elements };
  });
}

/** The buckets of one program on this Cloud TPU; `firstBucket` is its bucket 0 for the fabric. */
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

/** An infeed that is told which step of its program begins. */
export interface StepInfeed extends InfeedPort {
  begin(step: number): void;
}

/** What a queue's infeed is made of. */
export interface QueueInfeedParts {
  readonly executable: Executable;
  readonly queue: InfeedQueue;
  readonly heartbeat: Heartbeat;
  readonly words: Int32Array;
  /** Byte address of the word with the step that is step 0 of the queue. */
  readonly base: number;
  readonly waitMsLimit: number;
}

/**
 * The infeed of one program: a step of a queue for each, waited for when first asked for. It stays
 * in the queue when it has been taken: whoever commits the step releases it.
 */
export class QueueInfeed implements StepInfeed {
  readonly #parts: QueueInfeedParts;
  /** Where each element starts in a slot, and the bytes of one core's. */
  readonly #starts: readonly number[];
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

/** For a program without one. */
export const noInfeed: StepInfeed = {
  begin: () => undefined,
  address: () => assert(false, 'a program without an infeed asks for it') as never,
  release: () => undefined,
};

/** Gathers what the cores send in a step. For each element of the outfeed it holds the copies of all cores in turn. */
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
