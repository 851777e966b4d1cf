import { createRequire } from 'node:module';
import { dirname, join, resolve } from 'node:path';
import { quantiles } from '../../src/experiment/statistics.ts';
import type { BenchRow } from './row.ts';

/**
 * Types for the part of TensorFlow.js that this benchmark uses: `Tensor`, `Tfjs` and `TfjsWasm`.
 */
interface Tensor {
  dispose(): void;
}
interface Tfjs {
  tensor2d(values: Float32Array, shape: readonly [number, number]): Tensor;
  matMul(a: Tensor, b: Tensor): Tensor;
  setBackend(name: string): Promise<boolean>;
  ready(): Promise<void>;
}
interface TfjsWasm {
  setWasmPaths(folder: string): void;
  setThreadsCount(count: number): void;
}

/**
 * Times matmuls of TensorFlow.js on WebAssembly, on one thread, in three sizes that matmul.bench.ts
 * measures too. `ours` has the emulator's GF/s of these matmuls, by name. `folder` must have
 * `@tensorflow/tfjs-core` and `@tensorflow/tfjs-backend-wasm` installed.
 */
export async function run(folder: string, ours: ReadonlyMap<string, number>): Promise<BenchRow[]> {
  const load = createRequire(resolve(folder, 'package.json'));
  const tf = load('@tensorflow/tfjs-core') as Tfjs;
  const wasm = load('@tensorflow/tfjs-backend-wasm') as TfjsWasm;
  const manifest = load.resolve('@tensorflow/tfjs-backend-wasm/package.json');
  wasm.setWasmPaths(`${join(dirname(manifest), 'wasm-out')}/`);
  wasm.setThreadsCount(1);
  await tf.setBackend('wasm');
  await tf.ready();
  return [256, 512, 1024].map((size) => ({
    name: `tfjs-wasm ${size}³`,
    value: measure(tf, size),
    unit: 'GF/s',
    limit: rateOf(ours, `${size}³`),
    limitName: 'ours, in this run',
    higherIsBetter: true,
  }));
}

function rateOf(ours: ReadonlyMap<string, number>, size: string): number {
  const found = [...ours].find(([name]) => name.includes(size));
  return found?.[1] ?? Number.NaN;
}

function measure(tf: Tfjs, size: number): number {
  const values = Float32Array.from(
    { length: size * size },
    (_, i) => ((i * 7919) % 997) / 997 - 0.5,
  );
  const [a, b] = [tf.tensor2d(values, [size, size]), tf.tensor2d(values, [size, size])];
  const flops = 2 * size ** 3;
  const rounds = Math.ceil(2e8 / flops);
  const multiply = (): number => {
    const since = performance.now();
    for (let i = 0; i < rounds; i++) tf.matMul(a, b).dispose();
    return (flops * rounds) / (performance.now() - since) / 1e6;
  };
  for (let i = 0; i < 3; i++) multiply();
  return quantiles(Array.from({ length: 25 }, multiply)).p50;
}
