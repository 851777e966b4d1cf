import type { HloComputation, HloInstruction, SelectAndScatter } from '../../hlo/instruction.ts';
import { postOrder } from '../../hlo/traverse.ts';
import { at } from '../../numerics/assert.ts';
import { elementCount, isArray } from '../../numerics/shape.ts';
import { arrayRefusal } from '../lowering/loop.ts';
import { loweringOf } from '../lowering/table.ts';
import { type NestPlan, planOf, writePlan } from './generate.ts';
import { indexOf, wholePoint } from './nest.ts';
import { largestFunction, Notes } from './notes.ts';
import { tilesExactly } from './scatter.ts';
import { FunctionBuilder } from './ssa.ts';
import { arrayOf } from './value.ts';

/**
 * Returns true if a computation can be a fused loop, otherwise the reason in a few words. Refused
 * are:
 *
 * - an opcode that another unit executes;
 * - a constant array with different elements, which must be a parameter instead;
 * - a large reduction that the loop would compute again for each element of its result;
 * - a select-and-scatter inside an expression, unless its windows tile its operand (cover each
 *   element exactly once);
 * - a function that would be too large.
 */
export function supports(body: HloComputation): true | string {
  for (const it of postOrder(body.root)) {
    const reason = refusalOf(it, it === body.root);
    if (reason !== undefined) return reason;
  }
  for (const plan of planOf(body)) {
    const reason = planRefusal(body, plan);
    if (reason !== undefined) return reason;
  }
  return true;
}

/**
 * Returns the indices of the parameters whose memory a target (output) may overwrite. Such a
 * parameter has the type and size of the target, and only the nest that computes the target reads
 * it. This nest reads an element of the parameter only to compute elements of targets at the same
 * place. So each element is read before it is overwritten. Only one target may take the memory of a
 * parameter.
 */
export function inPlace(body: HloComputation, target: number): readonly number[] {
  const plans = planOf(body);
  const own = plans.find((plan) => plan.targets.some(({ number }) => number === target));
  const it = own?.targets.find(({ number }) => number === target)?.it;
  if (own === undefined || it === undefined || own.kind !== 'elements') return [];
  const same = indexOf(it, wholePoint(arrayOf(it).dims)).key;
  const loads = plans.flatMap((plan) =>
    draftOf(body, plan).loads.map((load) => ({ ...load, isOwn: plan === own })),
  );
  return body.parameters
    .filter(({ index, shape }) => {
      const its = loads.filter((load) => load.parameter === index);
      return (
        isArray(shape) &&
        shape.type === arrayOf(it).type &&
        elementCount(shape) === elementCount(arrayOf(it)) &&
        its.length > 0 &&
        its.every((load) => load.isOwn && load.index.key === same)
      );
    })
    .map(({ index }) => index);
}

/**
 * Returns the reason why a fused loop cannot compute `it`, or undefined if it can. The table of
 * lowerings (lowering/table.ts) has the conditions of each opcode.
 */
function refusalOf(it: HloInstruction, isRoot: boolean): string | undefined {
  const { loop } = loweringOf(it);
  if (loop === undefined) return `the opcode ${it.opcode}`;
  if (loop.refusal === undefined) return arrayRefusal(it.shape);
  return loop.refusal(it as never, { isRoot, ofBody: bodyRefusal, hasElements });
}

/**
 * Returns the reason why the body of a reduction is refused, or undefined if it is accepted. A body
 * may compute with scalars only.
 */
function bodyRefusal(body: HloComputation): string | undefined {
  for (const it of postOrder(body.root)) {
    if (it.opcode === 'tuple' && it === body.root) continue;
    const isScalar = isArray(it.shape) && it.shape.dims.length === 0;
    if (!isScalar || loweringOf(it).loop?.hasLoops) return `${it.opcode} in ${body.name}`;
    const reason = refusalOf(it, false);
    if (reason !== undefined) return reason;
  }
  return undefined;
}

/** True if the code of `it` in a loop gives several elements, one for each array of a tuple. */
function hasElements(it: HloInstruction): boolean {
  return loweringOf(it).loop?.elements !== undefined;
}

function planRefusal(body: HloComputation, plan: NestPlan): string | undefined {
  const notes = draftOf(body, plan);
  if (notes.isTooLarge) return `more than ${largestFunction} values`;
  if (notes.isWasteful) return 'a reduction computed again for each element';
  if (plan.kind === 'scatter') {
    return notes.scattered.length > 0 ? 'a select-and-scatter that reads another one' : undefined;
  }
  return notes.scattered.some(({ it, point }) => !isTileAt(plan, it as SelectAndScatter, point))
    ? 'a select-and-scatter inside an expression'
    : undefined;
}

/**
 * True if the nest computes the element of the select-and-scatter `it` at `point` before a target
 * needs this element. Two conditions must hold: the nest visits the windows of `it`; and `point` is
 * the point at which the nest computes its targets.
 */
function isTileAt(
  plan: NestPlan,
  it: SelectAndScatter,
  point: readonly { key: string }[],
): boolean {
  if (plan.kind !== 'tiles' || plan.scatter !== it || !tilesExactly(it)) return false;
  const whole = wholePoint(arrayOf(it).dims);
  return point.every(({ key }, d) => key === at(whole, d).key);
}

/** Returns the notes that a draft of the nest's code records. The draft itself is discarded. */
function draftOf(body: HloComputation, plan: NestPlan): Notes {
  const notes = new Notes('draft', largestFunction);
  const to = new FunctionBuilder(body.parameters.length);
  writePlan({ to, helpers: new Set(), ids: new Map() }, plan, notes);
  return notes;
}
