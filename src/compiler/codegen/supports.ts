import type { HloComputation, HloInstruction, SelectAndScatter } from '../../hlo/instruction.ts';
import { postOrder } from '../../hlo/traverse.ts';
import { at } from '../../numerics/assert.ts';
import { computedTypes } from '../../numerics/element-type.ts';
import { elementCount, isArray, product, type Shape, shapeText } from '../../numerics/shape.ts';
import { arrayOf } from './element.ts';
import { type NestPlan, planOf, writePlan } from './generate.ts';
import { indexOf, wholePoint } from './nest.ts';
import { largestFunction, Notes } from './notes.ts';
import { mostScatterPositions, tilesExactly } from './scatter.ts';
import { FunctionBuilder } from './ssa.ts';

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

function refusalOf(it: HloInstruction, isRoot: boolean): string | undefined {
  switch (it.opcode) {
    case 'tuple':
      return isRoot && it.operands.every(({ shape }) => isArray(shape))
        ? undefined
        : 'a nested tuple';
    case 'constant':
      return new Set(it.value.data).size <= 1 ? arrayRefusal(it.shape) : 'a constant array';
    case 'get-tuple-element':
      return at(it.operands, 0).opcode === 'reduce'
        ? arrayRefusal(it.shape)
        : 'an element of a tuple';
    case 'reduce':
      return scalarRefusal(it.body);
    case 'reduce-window':
      return scalarRefusal(it.body);
    case 'select-and-scatter': {
      const size = product(it.window.map((window) => window.size));
      if (size > mostScatterPositions) return `a window of ${size} elements`;
      return scalarRefusal(it.select) ?? scalarRefusal(it.scatter);
    }
    case 'dot':
    case 'convolution':
    case 'rng-bit-generator':
    case 'all-reduce':
    case 'after-all':
    case 'infeed':
    case 'outfeed':
    case 'fusion':
      return `the opcode ${it.opcode}`;
    default:
      return arrayRefusal(it.shape);
  }
}

function arrayRefusal(shape: Shape): string | undefined {
  return isArray(shape) && computedTypes.includes(shape.type)
    ? undefined
    : `a value of ${shapeText(shape)}`;
}

/**
 * Returns the reason why the body of a reduction is refused, or undefined if it is accepted. A body
 * may compute with scalars only.
 */
function scalarRefusal(body: HloComputation): string | undefined {
  for (const it of postOrder(body.root)) {
    if (it.opcode === 'tuple' && it === body.root) continue;
    if (!isArray(it.shape) || it.shape.dims.length > 0) return `${it.opcode} in ${body.name}`;
    if (it.opcode === 'reduce' || it.opcode === 'select-and-scatter') {
      return `${it.opcode} in ${body.name}`;
    }
    const reason = refusalOf(it, false);
    if (reason !== undefined) return reason;
  }
  return undefined;
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
