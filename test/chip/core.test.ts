import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Copies } from '../../src/isa/executable.ts';
import { roundToBf16 } from '../../src/numerics/bf16.ts';
import { digest } from '../../src/numerics/digest.ts';
import { philox } from '../../src/numerics/random.ts';
import { arrayShape } from '../../src/numerics/shape.ts';
import { benchTpu, bytesOf, floatsOf } from './bench-tpu.ts';
import { type Size, Tiny } from './tiny.ts';

/**
 * Returns the matrix product [batch, m, n]. Each sum over k is taken in the order of the MXU: first
 * within tiles of 128 products, then over the sums of the tiles.
 */
function product(lhs: Float32Array, rhs: Float32Array, size: Size, bf16: boolean): Float32Array {
  const { batch, m, n, k } = size;
  const round = bf16 ? roundToBf16 : Math.fround;
  const out = new Float32Array(batch * m * n);
  for (let b = 0; b < batch; b++)
    for (let i = 0; i < m; i++)
      for (let j = 0; j < n; j++) {
        let total = 0;
        for (let tile = 0; tile < k; tile += 128) {
          let sum = 0;
          for (let d = tile; d < Math.min(k, tile + 128); d++) {
            const a = round(lhs[(b * m + i) * k + d]!);
            sum = Math.fround(sum + Math.fround(a * round(rhs[(b * k + d) * n + j]!)));
          }
          total = tile === 0 ? sum : Math.fround(total + sum);
        }
        out[(b * m + i) * n + j] = total;
      }
  return out;
}

function add(a: Float32Array, b: Float32Array): Float32Array {
  return a.map((value, i) => value + b[i]!);
}

const cores = fc.constantFrom(1, 2, 4, 8);
const size = fc.record({
  batch: fc.integer({ min: 1, max: 3 }),
  m: fc.integer({ min: 1, max: 9 }),
  n: fc.integer({ min: 1, max: 9 }),
  k: fc.oneof(fc.integer({ min: 1, max: 9 }), fc.constantFrom(128, 130, 257)),
});
const kinds = fc.constantFrom<[Copies, Copies, Copies]>(
  ['shared', 'shared', 'shared'],
  ['core', 'shared', 'core'],
  ['shared', 'core', 'core'],
  ['core', 'core', 'core'],
  ['core', 'core', 'chip'],
);

/**
 * Returns pseudo-random numbers from −2 to 2. The smallest magnitude is 2^-30, apart from 0, so no
 * product of two of these numbers underflows.
 */
function values(seed: number, count: number): Float32Array {
  return Float32Array.from({ length: count }, (_, i) => {
    const [word] = philox([i, 0, 0, 0], [seed, 0]);
    return (word / 2 ** 32 - 0.5) * 4;
  });
}

describe('matmuls', () => {
  test('a copy has the product of its core or the sum of its chip, for any rows per call', () => {
    fc.assert(
      fc.property(
        cores,
        size,
        kinds,
        fc.boolean(),
        fc.integer({ min: 1, max: 40 }),
        (count, it, kind, bf16, rowsPerCall) => {
          const { batch, m, n, k } = it;
          const tiny = new Tiny(count);
          const shapes = [
            arrayShape('f32', [batch, m, k]),
            arrayShape('f32', [batch, k, n]),
          ] as const;
          const [left, right] = shapes.map((shape, side) =>
            kind[side] === 'shared' ? tiny.parameter(shape) : tiny.infeed(shape),
          );
          const target = tiny.buffer(arrayShape('f32', [batch, m, n]), kind[2]);
          tiny.matmul(left!, right!, target, it, bf16 ? 'bf16' : 'f32');
          const tpu = benchTpu(tiny.build(), { rowsPerCall });
          const lhs = (core: number): Float32Array =>
            values(kind[0] === 'shared' ? 99 : core, batch * m * k);
          const rhs = (core: number): Float32Array =>
            values(kind[1] === 'shared' ? 77 : 20 + core, batch * k * n);
          [lhs, rhs]
            .filter((_, side) => kind[side] === 'shared')
            .forEach((operand, index) => {
              tpu.cores.writeParameter(index, bytesOf(operand(0)));
            });
          tpu.step(
            Array.from({ length: count }, (_, core) =>
              [lhs, rhs]
                .filter((_, side) => kind[side] !== 'shared')
                .map((operand) => bytesOf(operand(core))),
            ),
          );
          const alone = (core: number): Float32Array => product(lhs(core), rhs(core), it, bf16);
          const copies =
            kind[2] === 'shared' ? 1 : kind[2] === 'core' ? count : Math.ceil(count / 2);
          for (let copy = 0; copy < copies; copy++) {
            const pair = kind[2] === 'chip' && count > 1;
            const expected = pair ? add(alone(2 * copy), alone(2 * copy + 1)) : alone(copy);
            expect(floatsOf(tpu.cores.readBuffer(target, copy))).toEqual(expected);
          }
        },
      ),
      { numRuns: 150 },
    );
  });

  test('the systolic and the fast MXU agree, and `rowsPerCall` sets the number of beats', () => {
    const tiny = new Tiny(8);
    const it = { batch: 1, m: 5, n: 3, k: 140 };
    const x = tiny.infeed(arrayShape('f32', [5, 140]));
    const w = tiny.parameter(arrayShape('f32', [140, 3]));
    const y = tiny.buffer(arrayShape('f32', [5, 3]), 'core');
    tiny.matmul(x, w, y, it, 'bf16');
    const executable = tiny.build();
    const run = (fidelity: 'fast' | 'systolic', rowsPerCall: number): [Uint8Array, number] => {
      const tpu = benchTpu(executable, { fidelity, rowsPerCall });
      tpu.cores.writeParameter(0, bytesOf(values(1, 420)));
      tpu.step(Array.from({ length: 8 }, (_, core) => [bytesOf(values(core, 700))]));
      return [tpu.cores.readBuffer(y, 7), tpu.beats()];
    };
    const [fast, once] = run('fast', 1000);
    const [systolic] = run('systolic', 16);
    expect(systolic).toEqual(fast);
    expect(run('fast', 4)[1] - once).toBe(9);
  });
});

describe('infeeds, sums and copies', () => {
  test('each core has its own infeed, chips add their cores, and the slice adds its chips', () => {
    fc.assert(
      fc.property(cores, fc.integer({ min: 1, max: 33 }), (count, length) => {
        const tiny = new Tiny(count);
        const shape = arrayShape('f32', [length]);
        const x = tiny.infeed(shape);
        const gradient = tiny.buffer(shape, 'chip', 'gradient');
        tiny.add({ unit: 'chip-sum', name: 'sum', phase: 'compute', source: x, target: gradient });
        const sum = tiny.allReduce(gradient);
        const weights = tiny.parameter(shape);
        tiny.copy(sum, weights);
        tiny.outfeed(x);
        tiny.outfeed(weights);
        const tpu = benchTpu(tiny.build());
        const feed = Array.from({ length: count }, (_, core) => values(core, length));
        const sent = tpu.step(feed.map((it) => [bytesOf(it)]));
        const chips = Array.from({ length: Math.ceil(count / 2) }, (_, chip) =>
          count === 1 ? feed[0]! : add(feed[2 * chip]!, feed[2 * chip + 1]!),
        );
        expect(sent[0]!.map(floatsOf)).toEqual(feed);
        expect(sent[1]!.map(floatsOf)).toEqual([chips.reduce(add)]);
        const words = new Uint32Array(tpu.cores.readParameter(0).buffer);
        expect(tpu.cores.digestParameters(1)).toBe(digest(words));
      }),
    );
  });

  test('a shared value of any number of bytes is copied to every core', () => {
    fc.assert(
      fc.property(cores, fc.integer({ min: 1, max: 17 }), (count, length) => {
        const tiny = new Tiny(count);
        const source = tiny.parameter(arrayShape('pred', [length]));
        const target = tiny.buffer(arrayShape('pred', [length]), 'core');
        const after = tiny.buffer(arrayShape('pred', [64]), 'shared');
        tiny.copy(source, target);
        const tpu = benchTpu(tiny.build());
        const bits = Uint8Array.from({ length }, (_, i) => 1 + (i % 2));
        tpu.cores.writeParameter(0, bits);
        tpu.step([]);
        for (let core = 0; core < count; core++) {
          expect(tpu.cores.readBuffer(target, core)).toEqual(bits);
        }
        expect(tpu.cores.readBuffer(after)).toEqual(new Uint8Array(64));
      }),
    );
  });

  test('random bits are those of Philox, and the state advances by the blocks used', () => {
    const tiny = new Tiny(2);
    const state = tiny.parameter(arrayShape('u32', [4]));
    const bits = tiny.buffer(arrayShape('u32', [10]), 'shared');
    tiny.add({ unit: 'rng', name: 'rng', phase: 'compute', state, newState: state, bits });
    const tpu = benchTpu(tiny.build());
    const before = Uint32Array.of(5, 6, 0xffff_fffe, 7);
    tpu.cores.writeParameter(0, new Uint8Array(before.buffer));
    tpu.step([]);
    const blocks = [
      ...philox([0xffff_fffe, 7, 0, 0], [5, 6]),
      ...philox([0xffff_ffff, 7, 0, 0], [5, 6]),
      ...philox([0, 8, 0, 0], [5, 6]),
    ];
    expect([...new Uint32Array(tpu.cores.readBuffer(bits).buffer)]).toEqual(blocks.slice(0, 10));
    expect([...new Uint32Array(tpu.cores.readParameter(0).buffer)]).toEqual([5, 6, 1, 8]);
  });

  test('a parameter refuses data of another size', () => {
    const one = new Tiny(1);
    one.parameter(arrayShape('f32', [3]));
    const { cores: tpu } = benchTpu(one.build());
    expect(() => tpu.writeParameter(0, new Uint8Array(4))).toThrow(/takes 12 bytes, not 4/);
    tpu.writeParameter(0, bytesOf([1, 2, 3]));
    expect(floatsOf(tpu.readParameter(0))).toEqual(Float32Array.of(1, 2, 3));
  });
});
