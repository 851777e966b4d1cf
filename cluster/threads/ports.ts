import type { IciPort, InfeedPort, OutfeedPort } from '../../src/chip/ports.ts';
import type { InfeedQueue } from '../../src/data/infeed.ts';
import type { AllReduce } from '../../src/fabric/all-reduce.ts';
import { Doorbell } from '../../src/fabric/doorbell.ts';
import type { FabricLayout } from '../../src/fabric/fabric-memory.ts';
import type { Executable } from '../../src/isa/executable.ts';
import { assert, at } from '../../src/numerics/assert.ts';
import { PodError } from '../../src/numerics/error.ts';
import { byteCount } from '../../src/numerics/shape.ts';
import { controlWords } from './layout.ts';

/** A Cloud TPU's control line in the shared memory, as its worker writes it. */
export class Pulse {
  readonly #words: Int32Array;
  readonly #line: number;

  constructor(memory: WebAssembly.Memory, control: number) {
    this.#words = new Int32Array(memory.buffer);
    this.#line = control / 4;
  }

  /** A sign of life. */
  beat(): void {
    Atomics.add(this.#words, this.#line + controlWords.beats, 1);
  }

  awaitsInfeed(waits: boolean): void {
    Atomics.store(this.#words, this.#line + controlWords.awaitsInfeed, waits ? 1 : 0);
  }
}

/** A doorbell that shows signs of life while its worker waits for others. */
export class LiveDoorbell extends Doorbell {
  readonly #pulse: Pulse;

  constructor(memory: WebAssembly.Memory, layout: FabricLayout, worker: number, pulse: Pulse) {
    super(memory, layout, worker);
    this.#pulse = pulse;
  }

  override sleep(timeoutMs: number): void {
    this.#pulse.beat();
    super.sleep(Math.min(timeoutMs, napMsMax));
    this.#pulse.beat();
  }
}

/** A wait shows a sign of life at least this often. */
const napMsMax = 200;

/** The buckets of one program on this Cloud TPU; `firstBucket` is its bucket 0 for the fabric. */
export function iciPort(
  allReduce: AllReduce,
  firstBucket: number,
  now: () => number,
  waitMsLimit: number,
): IciPort {
  return {
    start: (bucket) => allReduce.start(firstBucket + bucket),
    progress: () => allReduce.progress(),
    finish: (bucket) => allReduce.finish(firstBucket + bucket, now() + waitMsLimit),
  };
}

/** The infeed of one program: step after step of a queue, each waited for when first asked for. */
export class QueueInfeed implements InfeedPort {
  readonly #queue: InfeedQueue;
  readonly #pulse: Pulse;
  readonly #waitMsLimit: number;
  /** Where each element starts in a slot, and the bytes of one core's. */
  readonly #starts: readonly number[];
  readonly #bytes: readonly number[];
  #step = 0;
  #slot: number | undefined;

  constructor(executable: Executable, queue: InfeedQueue, pulse: Pulse, waitMsLimit: number) {
    this.#queue = queue;
    this.#pulse = pulse;
    this.#waitMsLimit = waitMsLimit;
    this.#bytes = executable.infeed.map(byteCount);
    let end = 0;
    this.#starts = this.#bytes.map((bytes) => {
      const start = end;
      end += bytes * executable.cores;
      return start;
    });
  }

  address(element: number, core: number): number {
    this.#slot ??= this.#wait();
    return this.#slot + at(this.#starts, element) + core * at(this.#bytes, element);
  }

  release(): void {
    this.#queue.release(this.#step);
    this.#step++;
    this.#slot = undefined;
  }

  #wait(): number {
    this.#pulse.awaitsInfeed(true);
    const slot = this.#queue.consume(this.#step, this.#waitMsLimit, 'data loader');
    this.#pulse.awaitsInfeed(false);
    if (slot === undefined) throw new PodError('worker-silent', 'the infeed was stopped');
    return slot;
  }
}

/** For a program without one. */
export const noInfeed: InfeedPort = {
  address: () => assert(false, 'a program without an infeed asks for it') as never,
  release: () => undefined,
};

/** Gathers what the cores send in a step: for each element the copies one after another. */
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
