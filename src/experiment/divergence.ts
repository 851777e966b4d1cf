import { at } from '../numerics/assert.ts';
import { PodError } from '../numerics/error.ts';
import type { Pod } from '../pod/pod.ts';
import type { LastStep } from './checkpoint/keeper.ts';
import type { StepCommitted } from './event.ts';
import { parametersOf, type Run } from './prepared.ts';
import { trainProgram } from './program-index.ts';

/** Throws `diverged` if the loss of a step is not finite. */
export function refuseDivergence({ step, loss, learningRate }: StepCommitted): void {
  if (!Number.isFinite(loss)) {
    throw diverged(step, `a finite loss, found ${loss} at learning rate ${learningRate}`);
  }
}

/**
 * Throws `diverged` unless all parameters are finite after the last step. The losses cannot show
 * this, because the loss of the last step was computed before the last update.
 */
export async function checkFinite(run: Run, pod: Pod, { step }: LastStep): Promise<void> {
  refuseNonFinite(run, step, await pod.readParameters(trainProgram));
}

/** Throws `diverged` if one of the values of the parameters is not finite. */
export function refuseNonFinite(run: Run, step: number, values: readonly Uint8Array[]): void {
  for (const [i, { name, shape }] of parametersOf(run.programs.train).entries()) {
    if (shape.type !== 'f32') continue;
    const found = firstNonFinite(at(values, i));
    if (found !== undefined) throw diverged(step, `finite values of ${name}, found ${found}`);
  }
}

/** Returns the first f32 of `bytes` that is infinite or NaN; undefined if there is none. */
function firstNonFinite(bytes: Uint8Array): number | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let i = 0; i + 4 <= bytes.length; i += 4) {
    const value = view.getFloat32(i, true);
    if (!Number.isFinite(value)) return value;
  }
  return undefined;
}

/**
 * Returns the error of a run that has diverged at a step. `what` follows the word "expected" in the
 * message, such as `a finite loss, found NaN`.
 */
export function diverged(step: number, what: string): PodError {
  const advice = 'use a lower --learning-rate or more --warm-up';
  return new PodError('diverged', `step ${step}: expected ${what}; ${advice}`);
}
