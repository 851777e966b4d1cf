import { at } from '../numerics/assert.ts';
import { isArray } from '../numerics/shape.ts';
import { computation, tuple } from './build.ts';
import { isTrue } from './evaluate/control.ts';
import { evaluateComputation, type Value } from './evaluate.ts';
import type { HloInstruction, While } from './instruction.ts';
import { effectOf } from './ops.ts';
import { makesDiffer } from './replicas.ts';
import { postOrder } from './traverse.ts';

/** Largest number of trips that {@link tripCount} counts. */
export const countedTripsMax: number = 2 ** 16;

/**
 * Returns how many trips a loop makes, or undefined if that does not follow from the program or is
 * more than `countedTripsMax`. An example is a loop `for (i = 0; i < 10; i += 2)`.
 *
 * The counters of a loop are the elements of its value that the condition reads, and the elements
 * from which the body computes the next values of counters. The number of trips is known if the
 * value of the loop is a tuple and each counter is a scalar that starts with a constant. The
 * function then runs the loop with the counters alone.
 */
export function tripCount(it: While): number | undefined {
  const init = it.operands[0];
  const next = it.body.root;
  if (init?.opcode !== 'tuple' || next.opcode !== 'tuple') return undefined;
  const counters = countersOf(it, next.operands);
  if (counters === undefined) return undefined;
  const starts = counters.map((i) => constantScalar(init.operands[i]!));
  if (!starts.every((start) => start !== undefined)) return undefined;
  return trips(it, counters, starts);
}

/** Returns the indices of the counters; undefined if all elements may be counters. */
function countersOf(
  { condition, body }: While,
  next: readonly HloInstruction[],
): readonly number[] | undefined {
  const read = elementsRead(condition.root, condition.parameters[0]!);
  if (read === undefined) return undefined;
  // A `for` loop over a set also visits the elements that the loop itself adds.
  for (const i of read) {
    const before = elementsRead(next[i]!, body.parameters[0]!);
    if (before === undefined) return undefined;
    for (const each of before) read.add(each);
  }
  return [...read];
}

/**
 * Returns the indices of the elements of a tuple on which `root` depends; undefined if it depends
 * on the tuple as a whole.
 */
function elementsRead(root: HloInstruction, whole: HloInstruction): Set<number> | undefined {
  const read = new Set<number>();
  if (root === whole) return undefined;
  for (const it of postOrder(root)) {
    if (!it.operands.includes(whole)) continue;
    if (it.opcode !== 'get-tuple-element') return undefined;
    read.add(it.index);
  }
  return read;
}

/** Returns the value of a scalar that depends on nothing from outside of the program. */
function constantScalar(it: HloInstruction): Value | undefined {
  if (!isArray(it.shape) || it.shape.dims.length > 0) return undefined;
  const isFixed = (x: HloInstruction): boolean =>
    x.opcode !== 'parameter' && effectOf(x) === undefined && !makesDiffer(x);
  if (!postOrder(it).every(isFixed)) return undefined;
  return evaluateComputation(computation('start', [], it), []);
}

function trips(
  { condition, body }: While,
  counters: readonly number[],
  starts: readonly Value[],
): number | undefined {
  const next = computation(
    'next',
    body.parameters,
    tuple(counters.map((i) => at(body.root.operands, i))),
  );
  const whole = condition.parameters[0]!.shape;
  const width = whole.type === 'tuple' ? whole.elements.length : 0;
  let values = starts;
  for (let trip = 0; trip <= countedTripsMax; trip++) {
    // Elements that are no counters are never read, so any value will do for them.
    const value = new Array<Value>(width).fill('token');
    counters.forEach((i, n) => {
      value[i] = values[n]!;
    });
    if (!isTrue(evaluateComputation(condition, [value]))) return trip;
    values = evaluateComputation(next, [value]) as readonly Value[];
  }
  return undefined;
}
