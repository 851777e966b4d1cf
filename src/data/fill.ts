import { assert } from '../numerics/assert.ts';
import { type Dataset, pixelsOf } from './dataset.ts';
import { assignSamples, type Plan, tpuBatch } from './plan.ts';

/** Label of a padding sample. It is not a class; loss and accuracy leave padding out. */
export const paddingLabel = -1;

/** Buffers of one loader, used again for every step. */
export interface FillScratch {
  readonly samples: Float64Array;
  readonly pixels: Uint8Array;
}

export function fillScratch(dataset: Dataset, plan: Plan): FillScratch {
  return {
    samples: new Float64Array(tpuBatch(plan)),
    pixels: new Uint8Array(pixelsOf(dataset)),
  };
}

/** Views of the memory that receives the samples of one Cloud TPU for one step. */
export interface StepSlot {
  /** Normalised pixels, f32[samples, rows, columns, channels]. */
  readonly images: Float32Array;
  /** Class of each sample, s32[samples]; {@link paddingLabel} for padding. */
  readonly labels: Int32Array;
}

/**
 * Writes the samples that Cloud TPU `tpu` receives at `step`, replica after replica: normalised
 * pixels to `images` as f32[samples, rows, columns, channels], classes to `labels` as s32[samples].
 * Padding is zeros with label -1. The earlier contents of `scratch` do not affect the result.
 */
export function fillStep(
  dataset: Dataset,
  plan: Plan,
  tpu: number,
  step: number,
  images: Float32Array,
  labels: Int32Array,
  scratch: FillScratch,
): void {
  const count = tpuBatch(plan);
  const area = pixelsOf(dataset);
  assert(dataset.size === plan.size, `a plan for ${plan.size} of ${dataset.size} samples`);
  assert(images.length === count * area, `${images.length} f32 for ${count} images of ${area}`);
  assert(labels.length === count, `${labels.length} labels for ${count} images`);
  assignSamples(plan, tpu, step, scratch.samples);
  fillSamples(dataset, { images, labels }, { from: 0, to: count }, scratch);
}

/**
 * Writes samples [from, to) of a step, so that a caller can do the work of {@link fillStep} in
 * several calls. The caller must first write the indices of the step's samples to
 * `scratch.samples`.
 */
export function fillSamples(
  dataset: Dataset,
  { images, labels }: StepSlot,
  { from, to }: { readonly from: number; readonly to: number },
  { samples, pixels }: FillScratch,
): void {
  const { normalisation } = dataset;
  const area = pixelsOf(dataset);
  for (let i = from; i < to; i++) {
    const index = samples[i]!;
    if (index < 0) {
      images.fill(0, i * area, (i + 1) * area);
      labels[i] = paddingLabel;
    } else {
      labels[i] = dataset.sample(index, pixels, 0);
      normalise(pixels, normalisation, images, i * area);
    }
  }
}

function normalise(
  pixels: Uint8Array,
  table: Float32Array,
  images: Float32Array,
  offset: number,
): void {
  for (let i = 0; i < pixels.length; i++) images[offset + i] = table[pixels[i]!]!;
}
