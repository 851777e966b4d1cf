import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type BucketPlace, Collectives } from '../../src/fabric/collectives.ts';
import { abortFabric, Doorbell } from '../../src/fabric/doorbell.ts';
import {
  Engine,
  EngineClient,
  EngineDoorbell,
  layOutEngine,
  resetEngine,
} from '../../src/fabric/engine.ts';
import { layOutFabric, resetFabric } from '../../src/fabric/fabric-memory.ts';
import { sumKernels } from '../../src/fabric/kernels/sum.ts';
import type { InLink } from '../../src/fabric/link.ts';
import { memoryLinks } from '../../src/fabric/memory-link.ts';
import { serialSum } from '../../src/fabric/serial-sum.ts';
import { chipsOf, flatTorus, podTorus, type Torus } from '../../src/fabric/torus.ts';
import { bits, makeVectors } from './slice.ts';

/**
 * A slice whose workers all run in one thread. The engine of a worker does its all-reduces. All
 * engines make progress whenever any worker sleeps.
 */
interface Slice {
  readonly clients: readonly EngineClient[];
  /**
   * Returns the vector of a chip, without copying it. After the all-reduce, the vector of each
   * worker's first chip has the sum.
   */
  vector(bucket: number, chip: number): Float32Array;
  abort(): void;
}

interface Options {
  /** Numbers of the workers whose engines never make progress. */
  readonly still?: readonly number[];
  readonly wrapIn?: (link: InLink, worker: number) => InLink;
}

function makeSlice(torus: Torus, lengths: readonly number[], options: Options = {}): Slice {
  const { still = [], wrapIn = (link) => link } = options;
  const layout = layOutFabric(torus, 1024);
  let end = layout.base + layout.bytes;
  const take = (bytes: number): number => {
    const start = end;
    end += Math.ceil(bytes / 128) * 128;
    return start;
  };
  const workers = Array.from({ length: torus.workers }, (_, worker) => ({
    engine: layOutEngine(take(layOutEngine(0, lengths.length).bytes), lengths.length),
    buckets: lengths.map((elements): BucketPlace => {
      const stride = elements * 4;
      return { address: take(stride * chipsOf(torus, worker).length), stride, elements };
    }),
  }));
  const pages = Math.ceil(end / 65536);
  const memory = new WebAssembly.Memory({ initial: pages, maximum: 65536, shared: true });
  resetFabric(memory, layout);
  const kernels = sumKernels(memory);
  const engines = workers.map(({ engine, buckets }, worker) => {
    resetEngine(memory, engine);
    const doorbell = new EngineDoorbell(memory, layout, worker);
    const local = memoryLinks(memory, layout, torus, doorbell);
    const links = {
      out: local.out,
      in: (link: number, colour: number) => wrapIn(local.in(link, colour), worker),
    };
    const parts = {
      ...{ torus, worker, generation: 1, kernels, links, doorbell, collectives: buckets },
      now: () => 0,
    };
    return new Engine(memory, engine, new Collectives(parts), doorbell);
  });
  let ms = 0;
  const sleep = (): void => {
    ms += 100;
    for (const [worker, engine] of engines.entries())
      if (!still.includes(worker)) engine.progress();
  };
  return {
    clients: workers.map(({ engine }, worker) => {
      const doorbell = new (class extends Doorbell {
        override sleep(): void {
          sleep();
          this.stayAwake();
        }
      })(memory, layout, worker);
      return new EngineClient(memory, engine, doorbell, () => ms);
    }),
    vector(bucket, chip) {
      const place = torus.places[chip] ?? { worker: 0, index: 0 };
      const { address, stride, elements } = workers[place.worker]!.buckets[bucket]!;
      return new Float32Array(memory.buffer, address + place.index * stride, elements);
    },
    abort: () => abortFabric(memory, layout),
  };
}

const tori: fc.Arbitrary<Torus> = fc
  .record({ columns: fc.integer({ min: 1, max: 3 }), rows: fc.integer({ min: 1, max: 2 }) })
  .map(podTorus);

describe('an engine', () => {
  it('sums the buckets that workers start, several times, equal to the serial sum bit for bit', () => {
    fc.assert(
      fc.property(
        tori,
        fc.array(fc.integer({ min: 1, max: 3000 }), { minLength: 1, maxLength: 4 }),
        fc.nat(),
        (torus, lengths, seed) => {
          const { clients, vector } = makeSlice(torus, lengths);
          for (let step = 0; step < 3; step++) {
            const all = lengths.map((length, bucket) => {
              const vectors = makeVectors(torus, length, seed + 7 * bucket + step);
              for (const [chip, values] of vectors.entries()) vector(bucket, chip).set(values);
              return vectors;
            });
            // Each worker starts the buckets in ascending order and finishes them in descending
            // order.
            for (const client of clients) for (const bucket of lengths.keys()) client.start(bucket);
            for (const client of clients) {
              for (const bucket of [...lengths.keys()].reverse()) client.finish(bucket, 1e9);
            }
            for (const [bucket, vectors] of all.entries()) {
              const sum = bits(serialSum(torus, vectors));
              for (const worker of clients.keys()) {
                const chip = chipsOf(torus, worker)[0] ?? 0;
                const found = bits(vector(bucket, chip));
                expect(found.findIndex((word, i) => word !== sum[i])).toBe(-1);
              }
            }
          }
        },
      ),
      { numRuns: 25 },
    );
  });

  it('names the link and the frame for which a late bucket waits', () => {
    const { clients } = makeSlice(flatTorus(3, 1), [1000]);
    clients[0]?.start(0);
    clients[1]?.start(0);
    expect(() => clients[1]?.finish(0, 5000)).toThrow(
      expect.objectContaining({
        code: 'link-timeout',
        message: expect.stringMatching(
          /^Cloud TPU 1: all-reduce of bucket 0 \(1000 elements\) timed out; silent: .*Cloud TPU 2.*; waits for .*a frame on link chip\(2,0\)-x \(chip\(2,0\) of Cloud TPU 2\)/,
        ),
      }),
    );
  });

  it('finishes the next buckets in time after one that was late', () => {
    let inTime = 0;
    for (let deadline = 0; deadline < 1000; deadline += 100) {
      const { clients } = makeSlice(flatTorus(2, 1), [64]);
      for (const client of clients) client.start(0);
      try {
        clients[0]?.finish(0, deadline);
      } catch (error) {
        expect(error).toMatchObject({ code: 'link-timeout' });
        continue;
      }
      inTime++;
      clients[1]?.finish(0, 1e9);
      for (const client of clients) client.start(0);
      for (const client of clients) client.finish(0, 1e9);
    }
    expect(inTime).toBeGreaterThan(0);
    expect(inTime).toBeLessThan(10);
  });

  it('reports a bad frame to its worker at each call', () => {
    const wrapIn = (link: InLink, worker: number): InLink => ({
      isEmpty: () => link.isEmpty(),
      peek(frame) {
        const found = link.peek(frame);
        if (worker === 1) frame.sequence += 1;
        return found;
      },
      release: () => link.release(),
      expect: (frame) => link.expect(frame),
    });
    const { clients } = makeSlice(flatTorus(2, 1), [64], { wrapIn });
    for (const client of clients) client.start(0);
    const wrong = expect.objectContaining({
      code: 'bad-frame',
      message: expect.stringMatching(/^link chip\(0,0\)[+-]x: expected frame/),
    });
    expect(() => clients[1]?.finish(0, 1e9)).toThrow(wrong);
    expect(() => clients[1]?.progress()).toThrow(wrong);
  });

  it('that stands still is distinguished from one that waits', () => {
    const { clients } = makeSlice(flatTorus(2, 1), [64], { still: [0] });
    clients[0]?.start(0);
    expect(() => clients[0]?.finish(0, 5000)).toThrow(
      expect.objectContaining({
        code: 'link-timeout',
        message: expect.stringMatching(
          /bucket 0: the all-reduce engine of this Cloud TPU does not respond$/,
        ),
      }),
    );
  });

  it('is no longer waited for after an abort by the master', () => {
    const { clients, abort } = makeSlice(flatTorus(2, 1), [64]);
    clients[0]?.start(0);
    abort();
    expect(() => clients[0]?.finish(0, 1e9)).toThrow(/ended by the master$/);
  });

  it('refuses to start a bucket again before it is done', () => {
    const { clients } = makeSlice(flatTorus(2, 1), [64]);
    clients[0]?.start(0);
    expect(() => clients[0]?.start(0)).toThrow(/started before it was done/);
    expect(() => clients[0]?.start(1)).toThrow(/bucket 1 of 1/);
  });
});
