import type { BucketPlace } from '../../src/fabric/collectives.ts';
import type { FabricLayout } from '../../src/fabric/fabric-memory.ts';
import { layOutFabric } from '../../src/fabric/fabric-memory.ts';
import { crcScratchBytes } from '../../src/fabric/kernels/crc.ts';
import { type SumKernels, sumKernels } from '../../src/fabric/kernels/sum.ts';
import { laneCount } from '../../src/fabric/part.ts';
import {
  chipCount,
  enteringLinks,
  flatTorus,
  podTorus,
  type Torus,
} from '../../src/fabric/torus.ts';
import { at } from '../../src/numerics/assert.ts';
import { mulberry32 } from '../../src/numerics/generator.ts';
import {
  crossings,
  type FrameSizes,
  frameSizes,
  type Hosting,
  type PumpLayout,
  peersOf,
  windowFrames,
} from '../net/route.ts';
import { pageBytes } from '../runtime/layout.ts';

/** Number of elements of the smallest chunk into which an all-reduce cuts a vector. */
const chunkElements = 4;
/**
 * Largest number of bytes that the gradients of all Cloud TPUs may have together. If the gradients
 * of a large torus would need more bytes, they get fewer elements.
 */
const gradientBytesMax = 2 ** 29;

/** Places of one Cloud TPU in the memory of a simulated pod. */
export interface TpuPlaces {
  readonly hosting: Hosting;
  /** For each bucket: the place of its vector of gradients. */
  readonly buckets: readonly BucketPlace[];
  /** Memory of the links to other Cloud TPUs. */
  readonly pump: PumpLayout;
}

/**
 * Memory of all Cloud TPUs of a simulated pod. It has only what all-reduces need: the gradients,
 * and the buffers of the links.
 */
export class PodMemory {
  readonly torus: Torus;
  readonly memory: WebAssembly.Memory;
  readonly kernels: SumKernels;
  readonly sizes: FrameSizes;
  /**
   * Addresses of the counters of each Cloud TPU, and of the doorbell, by which a sleeping thread is
   * woken. This memory has no queues of frames: `LocalLink` and `Pump` hold the frames.
   */
  readonly control: FabricLayout;
  readonly tpus: readonly TpuPlaces[];
  /** Number of elements of the gradients of one bucket. */
  readonly elements: number;
  /**
   * Random values, 2 · `elements` in number. The gradients of a bucket are a copy of some of them.
   */
  readonly #values: Float32Array;
  readonly #words: Uint32Array;
  readonly #floats: Float32Array;
  readonly #waits: readonly (readonly number[])[];

  constructor(torus: Torus, buckets: number) {
    this.torus = torus;
    this.elements = elementsOf(torus, buckets);
    this.sizes = frameSizes(torus, this.elements);
    const control = layOutFabric(flatTorus(1, 1), pageBytes);
    this.control = { ...control, workers: torus.workers, queueCount: 0 };
    let end = pageBytes + (1 + torus.workers) * 128;
    const take = (bytes: number): number => {
      end += Math.ceil(bytes / 128) * 128;
      return end - Math.ceil(bytes / 128) * 128;
    };
    const processOf = Array.from({ length: torus.workers }, (_, worker) => worker);
    this.tpus = processOf.map((self) => this.#placesOf({ torus, processOf, self }, buckets, take));
    const owned = takeMemory(Math.ceil(end / pageBytes));
    this.memory = owned.memory;
    this.kernels = owned.kernels;
    this.#words = new Uint32Array(this.memory.buffer);
    this.#floats = new Float32Array(this.memory.buffer);
    this.#waits = processOf.map((tpu) => waitIndices(torus, tpu));
    this.#values = randomValues(2 * this.elements);
    this.#words.fill(0, pageBytes / 4, pageBytes / 4 + (1 + torus.workers) * 32);
  }

  /**
   * Sets the gradients of a bucket on a Cloud TPU to `elements` consecutive values of `#values`,
   * from index `seed % elements` on. `seed` is a whole number from 0.
   */
  writeGradients(tpu: number, bucket: number, seed: number): void {
    const { address } = at(at(this.tpus, tpu).buckets, bucket);
    const from = seed % this.elements;
    this.#floats.set(this.#values.subarray(from, from + this.elements), address / 4);
  }

  /** Returns the gradients of a bucket on a Cloud TPU. After an all-reduce they are the sum. */
  sum(tpu: number, bucket: number): Uint32Array {
    const { address } = at(at(this.tpus, tpu).buckets, bucket);
    return this.#words.subarray(address / 4, address / 4 + this.elements);
  }

  /**
   * For each link that enters Cloud TPU `tpu` of a real pod, returns the index of the simulated
   * link from the same direction. The result has the order of `StepReport.linkWaitMs`. The indices
   * are those of the result of `Collectives.takeWaits`.
   */
  waitOf(tpu: number): readonly number[] {
    return at(this.#waits, tpu);
  }

  /** Allows another pod to use the memory. Afterwards this object must no longer be used. */
  release(): void {
    giveMemory({ memory: this.memory, kernels: this.kernels });
  }

  #placesOf(hosting: Hosting, buckets: number, take: (bytes: number) => number): TpuPlaces {
    const { out, in: incoming } = crossings(hosting);
    const stride = this.elements * 4;
    const bytes = stride;
    const noSegment = (peer: number) => ({ peer, address: 0, bytes: 0, queues: [] });
    const count = incoming.length * windowFrames;
    const pump: PumpLayout = {
      // A segment is memory that two processes share. Simulated Cloud TPUs share no memory, so each
      // segment has a size of 0 and says only which peer it belongs to.
      segments: { out: peersOf(out).map(noSegment), in: peersOf(incoming).map(noSegment) },
      slots: { address: take(count * this.sizes.slotBytes), count },
      scratch: take((1 + peersOf(incoming).length) * crcScratchBytes),
      end: 0,
    };
    const places = Array.from({ length: buckets }, (): BucketPlace => {
      return { address: take(bytes), stride, elements: this.elements };
    });
    return { hosting, buckets: places, pump };
  }
}

/** Returns the indices of `PodMemory.waitOf` for one Cloud TPU. `torus` is the simulated torus. */
function waitIndices(torus: Torus, tpu: number): readonly number[] {
  const simulated = enteringLinks(torus, tpu).map((link) => link & 3);
  const real = podTorus({ columns: torus.width, rows: torus.height });
  return enteringLinks(real, tpu).map((link) => simulated.indexOf(link & 3));
}

/**
 * Returns the number of elements of a bucket. On most tori it is just large enough that no frame of
 * an all-reduce is empty. On a very large torus such a bucket would need too much memory. There the
 * number is smaller, and the all-reduce leaves out the empty frames.
 */
function elementsOf(torus: Torus, buckets: number): number {
  const chips = chipCount(torus);
  const most = Math.floor(gradientBytesMax / (4 * chips * Math.max(1, buckets)));
  return Math.min(laneCount * chips * chunkElements, most);
}

interface Owned {
  readonly memory: WebAssembly.Memory;
  readonly kernels: SumKernels;
}

/**
 * Memories that no pod uses any more, for later pods. The key is the number of pages. A memory
 * reserves a large range of addresses until the garbage collector frees it. So addresses could run
 * out if each of thousands of simulations made a memory of its own.
 */
const unused: Map<number, Owned[]> = new Map();

function takeMemory(pages: number): Owned {
  const known = unused.get(pages)?.pop();
  if (known !== undefined) return known;
  const memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
  return { memory, kernels: sumKernels(memory) };
}

function giveMemory(owned: Owned): void {
  const pages = owned.memory.buffer.byteLength / pageBytes;
  unused.set(pages, [...(unused.get(pages) ?? []), owned]);
}

/** Returns random numbers from −1 to 1, the same in every simulation. */
function randomValues(count: number): Float32Array {
  const random = mulberry32(1);
  return Float32Array.from({ length: count }, () => 2 * random() - 1);
}
