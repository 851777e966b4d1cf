import { performance } from 'node:perf_hooks';
import { generate } from '../../src/compiler/codegen/generate.ts';
import * as b from '../../src/hlo/build.ts';
import type { HloComputation, HloInstruction } from '../../src/hlo/instruction.ts';
import { at } from '../../src/numerics/assert.ts';
import { type ArrayShape, arrayShape, byteCount, isArray } from '../../src/numerics/shape.ts';
import type { BenchRow } from './row.ts';

export interface VectorBenchOptions {
  /** Number of samples of each fused loop. The result is their median. */
  readonly samples?: number;
  /** Measures only fused loops whose names contain this text. */
  readonly only?: string;
}

/**
 * A fused loop of a training step. The loop runs once for each copy of its arrays. `copies` is 1 if
 * all cores of a Cloud TPU share the arrays. Otherwise `copies` is the number of cores, because
 * each core has arrays of its own.
 */
interface Case {
  readonly name: string;
  readonly body: HloComputation;
  readonly copies: number;
  /**
   * For each target (output array) of the loop: the index of the parameter whose memory the target
   * overwrites. Without `shares`, each target has memory of its own.
   */
  readonly shares?: readonly number[];
}

/** Images in the batch of one core: a global batch of 256 over 64 cores. */
const perCore = 4;

/**
 * Measures the GB/s that the fused loops of a training step read and write. The best possible
 * figure is the rate at which this machine reads and writes as many bytes by copying.
 */
export async function run(options: VectorBenchOptions = {}): Promise<BenchRow[]> {
  const { samples = 31, only = '' } = options;
  const chosen = cases().filter(({ name }) => name.includes(only));
  const memory = new WebAssembly.Memory({ initial: 2048, maximum: 65536, shared: true });
  const code = generate(chosen) as Uint8Array<ArrayBuffer>;
  const instance = new WebAssembly.Instance(new WebAssembly.Module(code), { env: { memory } });
  fill(memory);
  return chosen.flatMap((it, i) => {
    const loop = instance.exports[`f${i}`] as (...addresses: number[]) => void;
    const { calls, bytes } = placed(it);
    const copied = new Uint8Array(memory.buffer);
    const [rate, limit] = rates(samples, bytes, [
      () => {
        for (const addresses of calls) loop(...addresses);
      },
      () => copied.copyWithin(bytes, 0, bytes / 2),
    ]);
    const limitName = 'copying as many bytes';
    return [
      { name: it.name, value: rate!, unit: 'GB/s', limit: limit!, limitName, higherIsBetter: true },
    ];
  });
}

function cases(): Case[] {
  const f32 = (...dims: readonly number[]): ArrayShape => arrayShape('f32', dims);
  const image = f32(perCore, 24, 24, 64);
  const pooled = f32(perCore, 12, 12, 64);
  const weights = f32(9216, 128);
  const cores = 8;
  return [
    {
      name: 'bias and ReLU [4,24,24,64]',
      copies: cores,
      body: bodyOf([image, f32(64)], (x, bias) =>
        b.maximum(b.add(x, b.broadcast(bias, image.dims, [3])), zeros(image)),
      ),
      shares: [0],
    },
    {
      name: 'ReLU backward [4,24,24,64]',
      copies: cores,
      body: bodyOf([image, image], (x, g) =>
        b.select(b.compare('GT', x, zeros(image)), g, zeros(image)),
      ),
    },
    {
      name: 'bias gradient [4,24,24,64]',
      copies: cores,
      body: bodyOf([image], (g) => b.reduceSum(g, [0, 1, 2])),
    },
    {
      name: 'max-pool 2×2 [4,24,24,64]',
      copies: cores,
      body: bodyOf([image], (x) => {
        const init = b.scalar('f32', Number.NEGATIVE_INFINITY);
        return b.reduceWindow(x, init, pool, b.maximizer('f32'));
      }),
    },
    {
      name: 'max-pool 2×2 backward [4,24,24,64]',
      copies: cores,
      body: bodyOf([image, pooled], backward),
    },
    {
      name: 'max-pool 2×2 and ReLU backward [4,24,24,64]',
      copies: cores,
      body: bodyOf([image, pooled], (x, g) =>
        b.select(b.compare('GT', x, zeros(image)), backward(x, g), zeros(image)),
      ),
    },
    {
      name: 'padding by 2 [4,24,24,64]',
      copies: cores,
      body: bodyOf([image], (x) => {
        const two = [0, 2, 2, 0];
        return b.pad(x, b.scalar('f32', 0), { low: two, high: two, interior: [0, 0, 0, 0] });
      }),
    },
    { name: 'softmax cross-entropy [128,10]', copies: cores, body: crossEntropy(128) },
    {
      name: 'momentum and weights [9216,128]',
      copies: 1,
      body: bodyOf([weights, weights, weights], (g, m, w) => {
        const momentum = b.add(b.multiply(m, b.full('f32', weights.dims, 0.9)), g);
        const step = b.multiply(momentum, b.full('f32', weights.dims, 0.01));
        return b.tuple([momentum, b.subtract(w, step)]);
      }),
      shares: [1, 2],
    },
  ];
}

const pool = [1, 2, 2, 1].map((size) => b.windowDimension({ size, stride: size }));

function backward(x: HloInstruction, g: HloInstruction): HloInstruction {
  const select = b.greaterOrEqual('f32');
  return b.selectAndScatter(x, g, b.scalar('f32', 0), pool, select, b.adder('f32'));
}

/** Gradient of the softmax cross-entropy, row by row: probabilities minus one-hot labels. */
function crossEntropy(rows: number): HloComputation {
  const dims = [rows, 10];
  return bodyOf([arrayShape('f32', dims), arrayShape('s32', [rows])], (logits, labels) => {
    const along = (x: HloInstruction): HloInstruction => b.broadcast(x, dims, [0]);
    const e = b.exp(b.subtract(logits, along(b.reduceMax(logits, [1]))));
    const hot = b.compare('EQ', b.iota(arrayShape('s32', dims), 1), along(labels));
    return b.subtract(b.divide(e, along(b.reduceSum(e, [1]))), b.convert(hot, 'f32'));
  });
}

function bodyOf(
  shapes: readonly ArrayShape[],
  make: (x: HloInstruction, y: HloInstruction, z: HloInstruction) => HloInstruction,
): HloComputation {
  const parameters = shapes.map((shape, i) => b.parameter(i, shape));
  const [x, y, z] = parameters;
  return b.computation('body', parameters, make(x!, y!, z!));
}

function zeros({ dims }: ArrayShape): HloInstruction {
  return b.full('f32', dims, 0);
}

/**
 * Lays out the arrays of a loop in memory. The loop is called once for each copy of the arrays.
 * Returns the addresses for each call, and the number of bytes that all calls together read and
 * write.
 */
function placed({ body, copies, shares = [] }: Case): {
  readonly calls: readonly (readonly number[])[];
  readonly bytes: number;
} {
  const { root } = body;
  const targets = (root.shape.type === 'tuple' ? root.shape.elements : [root.shape]).filter(
    isArray,
  );
  const sources = body.parameters.map(({ shape }) => shape).filter(isArray);
  let end = 1024;
  const reserve = (shape: ArrayShape): number[] => {
    const start = end;
    end += copies * byteCount(shape);
    return Array.from({ length: copies }, (_, copy) => start + copy * byteCount(shape));
  };
  const from = sources.map(reserve);
  const to = targets.map((shape, t) => {
    const shared = shares[t];
    return shared === undefined ? reserve(shape) : at(from, shared);
  });
  const calls = Array.from({ length: copies }, (_, copy) =>
    [...from, ...to].map((addresses) => at(addresses, copy)),
  );
  const bytes = [...sources, ...targets].reduce((sum, shape) => sum + byteCount(shape), 0);
  return { calls, bytes: copies * bytes };
}

function fill(memory: WebAssembly.Memory): void {
  const words = new Float32Array(memory.buffer);
  for (let i = 0; i < words.length; i++) words[i] = (Math.imul(i, 0x9e37_79b1) >>> 24) / 128 - 1;
}

/**
 * Returns the median rate of each of `runs`, in GB/s. The samples of all runs alternate, so that
 * the load of other programs disturbs all runs equally.
 */
function rates(samples: number, bytes: number, runs: readonly (() => void)[]): number[] {
  const repeats = Math.max(1, Math.round(2e7 / bytes));
  const found = runs.map(() => [] as number[]);
  for (let sample = -5; sample < samples; sample++) {
    runs.forEach((once, i) => {
      const start = performance.now();
      for (let r = 0; r < repeats; r++) once();
      const seconds = (performance.now() - start) / 1000;
      if (sample >= 0) at(found, i).push((bytes * repeats) / seconds / 1e9);
    });
  }
  return found.map((list) =>
    at(
      list.sort((x, y) => x - y),
      list.length >> 1,
    ),
  );
}
