import { Collectives } from '../../src/fabric/collectives.ts';
import { Doorbell } from '../../src/fabric/doorbell.ts';
import type { FabricLayout } from '../../src/fabric/fabric-memory.ts';
import { layOutFabric, resetFabric, sentBytes } from '../../src/fabric/fabric-memory.ts';
import { sumKernels } from '../../src/fabric/kernels/sum.ts';
import type { Links } from '../../src/fabric/link.ts';
import { memoryLinks } from '../../src/fabric/memory-link.ts';
import type { Torus } from '../../src/fabric/torus.ts';
import { chipCount } from '../../src/fabric/torus.ts';

/** A slice that runs in one thread. A worker makes progress when the test calls its `progress`. */
export interface Slice {
  readonly torus: Torus;
  readonly memory: WebAssembly.Memory;
  readonly layout: FabricLayout;
  readonly workers: readonly Collectives[];
  /** Returns the vector that a chip has in the bucket with index `bucket`, without copying it. */
  vector(bucket: number, chip: number): Float32Array;
  /** Returns the vector in which a worker has the sum of the bucket after the all-reduce. */
  sum(bucket: number, worker: number): Float32Array;
  sentBytes(): Float64Array;
}

export interface SliceOptions {
  readonly frameElements?: number;
  readonly wrap?: (links: Links, worker: number) => Links;
  readonly now?: () => number;
  readonly idleMsMax?: number;
  /**
   * Makes the doorbell of a worker, on which the worker sleeps until another worker wakes it. By
   * default the doorbell makes the thread sleep.
   */
  readonly doorbell?: (...place: ConstructorParameters<typeof Doorbell>) => Doorbell;
}

export function makeSlice(
  torus: Torus,
  elements: readonly number[],
  options: SliceOptions = {},
): Slice {
  const { frameElements, wrap = (links) => links, now = () => 0, idleMsMax } = options;
  const { doorbell: makeDoorbell = (...place) => new Doorbell(...place) } = options;
  const layout = layOutFabric(torus, 1024);
  const starts: number[] = [];
  let end = layout.base + layout.bytes;
  for (const count of elements) {
    starts.push(end);
    end += count * 4 * chipCount(torus);
  }
  const memory = new WebAssembly.Memory({
    initial: Math.ceil(end / 65536),
    maximum: 65536,
    shared: true,
  });
  resetFabric(memory, layout);
  const kernels = sumKernels(memory);
  const chipsPerWorker = chipCount(torus) / torus.workers;
  const address = (bucket: number, worker: number, index: number): number =>
    (starts[bucket] ?? 0) + (worker * chipsPerWorker + index) * (elements[bucket] ?? 0) * 4;
  const workers = Array.from({ length: torus.workers }, (_, worker) => {
    const doorbell = makeDoorbell(memory, layout, worker);
    const buckets = elements.map((count, bucket) => ({
      address: address(bucket, worker, 0),
      stride: count * 4,
      elements: count,
    }));
    const links = wrap(memoryLinks(memory, layout, torus, doorbell), worker);
    return new Collectives({
      ...{ torus, worker, generation: 1, kernels, links, doorbell, collectives: buckets, now },
      ...(frameElements === undefined ? {} : { frameElements }),
      ...(idleMsMax === undefined ? {} : { idleMsMax }),
    });
  });
  const view = (bucket: number, worker: number, index: number): Float32Array =>
    new Float32Array(memory.buffer, address(bucket, worker, index), elements[bucket]);
  return {
    torus,
    memory,
    layout,
    workers,
    vector: (bucket, chip) => {
      const place = torus.places[chip] ?? { worker: 0, index: 0 };
      return view(bucket, place.worker, place.index);
    },
    sum: (bucket, worker) => view(bucket, worker, 0),
    sentBytes: () => sentBytes(memory, layout),
  };
}

/** Returns a vector for each chip, with values whose sum depends on the order of the additions. */
export function makeVectors(torus: Torus, elements: number, seed: number): Float32Array[] {
  let state = seed >>> 0;
  const next = (): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state;
  };
  return Array.from({ length: chipCount(torus) }, () =>
    Float32Array.from({ length: elements }, () => {
      const scale = 2 ** ((next() >>> 28) - 8);
      return (next() / 2 ** 32 - 0.5) * scale;
    }),
  );
}

/**
 * Runs the workers until all have finished the all-reduce of the bucket. `choose` takes the number
 * of workers, and returns the index of the worker that runs next.
 */
export function drive(slice: Slice, bucket: number, choose: (count: number) => number): void {
  const { workers } = slice;
  let idle = 0;
  while (!workers.every((worker) => worker.isDone(bucket))) {
    const moved = workers[choose(workers.length)]?.progress();
    idle = moved ? 0 : idle + 1;
    if (idle > 1000 * workers.length) throw new Error('the slice stands still');
  }
}

/** Returns a function that chooses the workers in turn, one after the other. */
export function inTurn(): (count: number) => number {
  let turn = 0;
  return (count) => turn++ % count;
}

export function bits(values: Float32Array): Uint32Array {
  return new Uint32Array(Float32Array.from(values).buffer);
}
