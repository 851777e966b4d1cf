import { assert } from '../numerics/assert.ts';
import { type Dataset, pixelsOf } from './dataset.ts';
import { assignSamples, type Plan, tpuBatch } from './plan.ts';

/** The label of padding: not a class, left out of loss and accuracy. */
export const paddingLabel = -1;

/** Working storage of one loader, used again for every step. */
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

/** Where the samples of one step of a Cloud TPU go. */
export interface StepSlot {
  /** f32[samples, rows, columns, channels]. */
  readonly images: Float32Array;
  /** s32[samples]. */
  readonly labels: Int32Array;
}

/**
 * Writes what Cloud TPU `tpu` is fed at `step`: `images` is f32[samples, rows, columns, channels],
 * normalised, `labels` s32[samples], replica after replica. Padding is zeros with label -1.
 * Depends on the arguments only; `scratch` carries nothing from call to call.
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
 * Writes samples [from, to) of a step whose samples were assigned to `scratch.samples`: what
 * {@link fillStep} does, a piece at a time.
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
