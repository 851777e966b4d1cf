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
 * A schedule: a function that computes the learning rate of a step in f32. `step` is the number of
 * the step, from 0. An f32 holds such numbers exactly up to 2^24. `V` is the type of scalars: HLO
 * instructions for the device, numbers for the host. Both get the same function, so their rates
 * have the same bits.
 */
export type Schedule = <V>(o: ScheduleOps<V>, step: V) => V;

/** Arithmetic that a schedule uses. Each operation rounds its result to f32. */
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

/** Returns the learning rate of a step as a number, rounded to f32. */
export function rateAt(schedule: Schedule, step: number): number {
  return schedule(numberOps, Math.fround(step));
}

/** Returns the learning rate of a step as HLO, f32[]. `step` is s32[]. */
export function rateOf(schedule: Schedule, step: HloInstruction): HloInstruction {
  return schedule(hloOps, convert(step, 'f32'));
}

/** Returns a schedule with the same learning rate in every step. */
export function constant(rate: number): Schedule {
  return (o) => o.constant(rate);
}

/**
 * Scales the schedule `then` with the global batch. `then` has the rates for a global batch of 256;
 * a batch k times as large gets k times the rate. [Goyal et al., 2017]
 */
export function linearScaling(globalBatch: number, then: Schedule): Schedule {
  return (o, step) => o.multiply(then(o, step), o.constant(globalBatch / 256));
}

/**
 * Scales the rates of the schedule `then` during the first `steps` steps. The factor rises linearly
 * from 1 / `steps` in step 0 to 1 in step `steps` − 1.
 */
export function warmUp(steps: number, then: Schedule): Schedule {
  if (steps <= 0) return then;
  return (o, step) => {
    const share = o.divide(o.add(step, o.constant(1)), o.constant(steps));
    return o.multiply(then(o, step), o.minimum(share, o.constant(1)));
  };
}

/**
 * Multiplies the rates of the schedule `then` by several factors. `factors[i]` applies to all steps
 * from step `boundaries[i]` on. So the rate of a step after three boundaries is multiplied by three
 * factors.
 */
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

/**
 * Multiplies the rates of the schedule `then` by a factor that falls along half a cosine, from 1 in
 * step 0 to 0 in step `total`. After step `total` the rate is 0. [Loshchilov, 2017]
 */
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
