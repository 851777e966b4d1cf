import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { linkBytesFormula } from '../../src/fabric/link-bytes.ts';
import { serialSum } from '../../src/fabric/serial-sum.ts';
import type { Direction, Torus } from '../../src/fabric/torus.ts';
import { chipsOf, flatTorus, linkCount, podTorus } from '../../src/fabric/torus.ts';
import { bits, drive, inTurn, makeSlice, makeVectors } from './slice.ts';

const tori: fc.Arbitrary<Torus> = fc.oneof(
  fc
    .record({ columns: fc.integer({ min: 1, max: 4 }), rows: fc.integer({ min: 1, max: 3 }) })
    .map(podTorus),
  fc
    .tuple(fc.integer({ min: 1, max: 5 }), fc.integer({ min: 1, max: 5 }))
    .map(([w, h]) => flatTorus(w, h)),
);
const lengths = fc.oneof(
  fc.integer({ min: 1, max: 40 }),
  fc.integer({ min: 1, max: 3000 }),
  fc.integer({ min: 1, max: 20_000 }),
);

function fill(slice: ReturnType<typeof makeSlice>, bucket: number, vectors: Float32Array[]): void {
  for (const [chip, vector] of vectors.entries()) slice.vector(bucket, chip).set(vector);
}

function expectSum(slice: ReturnType<typeof makeSlice>, bucket: number, sum: Float32Array): void {
  const expected = bits(sum);
  for (let worker = 0; worker < slice.torus.workers; worker++) {
    const found = bits(slice.sum(bucket, worker));
    const wrong = found.findIndex((word, i) => word !== expected[i]);
    expect({ worker, wrong }).toEqual({ worker, wrong: -1 });
  }
}

function expectBytes(slice: ReturnType<typeof makeSlice>, elements: readonly number[]): void {
  const { torus } = slice;
  const expected = Float64Array.from({ length: linkCount(torus) }, (_, link) =>
    elements.reduce(
      (sum, count) => sum + linkBytesFormula(torus, count, link >> 2, (link & 3) as Direction),
      0,
    ),
  );
  expect(slice.sentBytes()).toEqual(expected);
}

describe('all-reduce', () => {
  it('equals the serial sum bit for bit, in any order of workers', () => {
    fc.assert(
      fc.property(
        tori,
        lengths,
        fc.infiniteStream(fc.nat()),
        fc.nat(),
        (torus, length, order, seed) => {
          const slice = makeSlice(torus, [length]);
          const vectors = makeVectors(torus, length, seed);
          fill(slice, 0, vectors);
          for (const worker of slice.workers) worker.start(0);
          drive(slice, 0, (count) => (order.next().value ?? 0) % count);
          expectSum(slice, 0, serialSum(torus, vectors));
          expectBytes(slice, [length]);
        },
      ),
      { numRuns: 50 },
    );
  });

  it('gives the same sum for any size of frames', () => {
    fc.assert(
      fc.property(
        tori,
        lengths,
        fc.integer({ min: 1, max: 512 }),
        fc.nat(),
        (torus, length, slot, seed) => {
          const slice = makeSlice(torus, [length], { frameElements: slot });
          const vectors = makeVectors(torus, length, seed);
          fill(slice, 0, vectors);
          for (const worker of slice.workers) worker.start(0);
          drive(slice, 0, inTurn());
          expectSum(slice, 0, serialSum(torus, vectors));
          expectBytes(slice, [length]);
        },
      ),
      { numRuns: 30 },
    );
  });

  it('sums several buckets at once, several times', () => {
    fc.assert(
      fc.property(
        tori,
        fc.array(fc.integer({ min: 1, max: 5000 }), { minLength: 1, maxLength: 4 }),
        fc.nat(),
        (torus, lengths, seed) => {
          const slice = makeSlice(torus, lengths);
          for (let step = 0; step < 3; step++) {
            const all = lengths.map((length, bucket) =>
              makeVectors(torus, length, seed + 7 * bucket + step),
            );
            for (const [bucket, vectors] of all.entries()) fill(slice, bucket, vectors);
            for (const [turn, worker] of slice.workers.entries()) {
              for (const bucket of lengths.keys()) {
                worker.start(bucket);
                if ((turn + bucket) % 2 === 0) worker.progress();
              }
            }
            drive(slice, lengths.length - 1, inTurn());
            for (const [bucket, vectors] of all.entries())
              expectSum(slice, bucket, serialSum(torus, vectors));
          }
          expectBytes(
            slice,
            lengths.flatMap((length) => [length, length, length]),
          );
        },
      ),
      { numRuns: 25 },
    );
  });

  it('reads no vector after it is done', () => {
    fc.assert(
      fc.property(
        tori,
        lengths,
        fc.infiniteStream(fc.nat()),
        fc.nat(),
        (torus, length, order, seed) => {
          const slice = makeSlice(torus, [length]);
          const vectors = makeVectors(torus, length, seed);
          fill(slice, 0, vectors);
          for (const worker of slice.workers) worker.start(0);
          const sums = new Map<number, Float32Array>();
          drive(slice, 0, (count) => {
            for (const [worker, it] of slice.workers.entries()) {
              if (!it.isDone(0) || sums.has(worker)) continue;
              sums.set(worker, slice.sum(0, worker).slice());
              for (const chip of chipsOf(torus, worker)) slice.vector(0, chip).fill(Number.NaN);
            }
            return (order.next().value ?? 0) % count;
          });
          const expected = bits(serialSum(torus, vectors));
          for (const sum of sums.values()) expect(bits(sum)).toEqual(expected);
        },
      ),
      { numRuns: 30 },
    );
  });

  it('sums a long vector in many frames', () => {
    const torus = flatTorus(2, 1);
    const length = 700_003;
    const slice = makeSlice(torus, [length]);
    const vectors = makeVectors(torus, length, 5);
    fill(slice, 0, vectors);
    for (const worker of slice.workers) worker.start(0);
    drive(slice, 0, inTurn());
    expectSum(slice, 0, serialSum(torus, vectors));
    expectBytes(slice, [length]);
  });

  it.each([
    [1, 1],
    [2, 1],
    [4, 2],
    [8, 8],
  ])('sends the bytes of the formula over every link of %d×%d Cloud TPUs', (columns, rows) => {
    const torus = podTorus({ columns, rows });
    const slice = makeSlice(torus, [1237, 70_001]);
    for (const worker of slice.workers) {
      worker.start(0);
      worker.start(1);
    }
    drive(slice, 1, inTurn());
    expectBytes(slice, [1237, 70_001]);
  });

  it('sends the bytes of the formula over every link of every topology up to 8×8', () => {
    for (let columns = 1; columns <= 8; columns++) {
      for (let rows = 1; rows <= 8; rows++) {
        const torus = podTorus({ columns, rows });
        const length = 1 + ((columns * 3001 + rows * 523) % 9000);
        const slice = makeSlice(torus, [length]);
        for (const worker of slice.workers) worker.start(0);
        drive(slice, 0, inTurn());
        expectBytes(slice, [length]);
      }
    }
  });
});
