import type { Snapshot } from '../../../src/experiment/checkpoint/checkpoint.ts';
import type { Tensor } from '../../../src/experiment/checkpoint/safetensors.ts';
import type { TrainConfig } from '../../../src/experiment/config.ts';
import { digest, digestText } from '../../../src/numerics/digest.ts';
import { bits, stream } from '../../../src/numerics/random.ts';
import { type ArrayShape, arrayShape, byteCount } from '../../../src/numerics/shape.ts';

export const config: TrainConfig = {
  topology: { columns: 1, rows: 1 },
  model: 'mlp',
  data: 'digits:200',
  globalBatch: 8,
  length: { unit: 'steps', steps: 6 },
  learningRate: 0.05,
  schedule: 'cosine',
  warmUp: 0.1,
  momentum: 0.9,
  seed: 0,
  precision: 'bf16',
  mxu: 'fast',
  recovery: 'none',
  evaluate: 8,
};

/**
 * Returns a snapshot of a run after step `step`. It has two tensors of weights and two tensors of
 * optimizer state. The first tensor of weights has `elements` elements.
 */
export function snapshotOf(step: number, elements = 40): Snapshot {
  const weights = [
    tensor(`step ${step}`, 'dense/kernel', arrayShape('f32', [elements / 4, 4])),
    tensor(`step ${step}`, 'dense/bias', arrayShape('f32', [4])),
  ];
  const state = [
    tensor(`step ${step}`, 'momentum/dense/kernel', arrayShape('bf16', [elements / 4, 4])),
    tensor(`step ${step}`, 'step', arrayShape('s32', [])),
  ];
  const value = weights.reduce((sum, it) => digest(new Uint32Array(it.bytes.buffer), sum), 0n);
  return {
    config,
    step,
    samplesSeen: step * config.globalBatch,
    trainSamples: 200,
    loss: 1 / step,
    weightsDigest: digestText(value),
    weights: weights.length,
    tensors: [...weights, ...state],
  };
}

/** Returns a tensor of random bits that depend on `seed` and `name`. */
export function tensor(seed: string, name: string, shape: ArrayShape): Tensor {
  const key = stream(1, `${seed}/${name}`);
  return {
    name,
    shape,
    bytes: Uint8Array.from({ length: byteCount(shape) }, (_, i) => bits(key, i)),
  };
}
