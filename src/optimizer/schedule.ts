import {
  add,
  compare,
  convert,
  cos,
  divide,
  minimum,
  multiply,
  scalar,
  select,
} from '../hlo/build.ts';
import type { HloInstruction } from '../hlo/instruction.ts';
import { assert, at } from '../numerics/assert.ts';
import { onNumber } from '../numerics/f32-ops.ts';
import * as lanes from '../numerics/transcendental.ts';

/**
 * The learning rate of a step, in f32. Steps are 0, 1, …, exact below 2^24. A schedule is generic
 * in the kind of scalar: the device computes it as HLO and the host as a number, to the same bit.
 */
export type Schedule = <V>(o: ScheduleOps<V>, step: V) => V;

/** f32 arithmetic of a schedule. Each operation rounds to f32. */
export interface ScheduleOps<V> {
  constant(value: number): V;
  add(a: V, b: V): V;
  multiply(a: V, b: V): V;
  divide(a: V, b: V): V;
  minimum(a: V, b: V): V;
  cosine(a: V): V;
  /** Returns a < b ? onTrue : onFalse. */
  ifLess(a: V, b: V, onTrue: V, onFalse: V): V;
}

/** Learning rate of a step as a number, rounded to f32. */
export function rateAt(schedule: Schedule, step: number): number {
  return schedule(numberOps, Math.fround(step));
}

/** Learning rate of a step as HLO: f32[] from the step, s32[]. */
export function rateOf(schedule: Schedule, step: HloInstruction): HloInstruction {
  return schedule(hloOps, convert(step, 'f32'));
}

/** The same learning rate in every step. */
export function constant(rate: number): Schedule {
  return (o) => o.constant(rate);
}

/**
 * Scales the learning rate with the global batch: `then` is the schedule for a batch of 256, and k
 * times the batch takes k times the rate. [Goyal et al., 2017]
 */
export function linearScaling(globalBatch: number, then: Schedule): Schedule {
  return (o, step) => o.multiply(then(o, step), o.constant(globalBatch / 256));
}

/** Rises linearly over the first `steps` steps and reaches `then` in the last of these steps. */
export function warmUp(steps: number, then: Schedule): Schedule {
  if (steps <= 0) return then;
  return (o, step) => {
    const share = o.divide(o.add(step, o.constant(1)), o.constant(steps));
    return o.multiply(then(o, step), o.minimum(share, o.constant(1)));
  };
}

/** Multiplies `then` by `factors[i]` from step `boundaries[i]` on. Factors accumulate. */
export function piecewise(
  boundaries: readonly number[],
  factors: readonly number[],
  then: Schedule,
): Schedule {
  const pairs = `${boundaries.length} boundaries, ${factors.length} factors`;
  assert(boundaries.length === factors.length, `a factor for each boundary: ${pairs}`);
  return (o, step) =>
    boundaries.reduce(
      (rate, boundary, i) =>
        o.ifLess(step, o.constant(boundary), rate, o.multiply(rate, o.constant(at(factors, i)))),
      then(o, step),
    );
}

/** Falls from `then` to 0 at step `total` along half a cosine, and stays 0. [Loshchilov, 2017] */
export function cosine(total: number, then: Schedule): Schedule {
  assert(total > 0, `a cosine over ${total} steps`);
  return (o, step) => {
    const share = o.divide(o.minimum(step, o.constant(total)), o.constant(total));
    const wave = o.cosine(o.multiply(share, o.constant(Math.PI)));
    const factor = o.multiply(o.add(wave, o.constant(1)), o.constant(0.5));
    return o.multiply(then(o, step), factor);
  };
}

const numberOps: ScheduleOps<number> = {
  constant: Math.fround,
  add: (a, b) => Math.fround(a + b),
  multiply: (a, b) => Math.fround(a * b),
  divide: (a, b) => Math.fround(a / b),
  minimum: Math.min,
  cosine: onNumber(lanes.cos),
  ifLess: (a, b, onTrue, onFalse) => (a < b ? onTrue : onFalse),
};

const hloOps: ScheduleOps<HloInstruction> = {
  constant: (value) => scalar('f32', value),
  add,
  multiply,
  divide,
  minimum,
  cosine: cos,
  ifLess: (a, b, onTrue, onFalse) => select(compare('LT', a, b), onTrue, onFalse),
};
