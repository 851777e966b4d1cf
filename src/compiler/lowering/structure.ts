import type { Fusion, GetTupleElement } from '../../hlo/instruction.ts';
import { assert, at } from '../../numerics/assert.ts';
import { elementCount, isArray } from '../../numerics/shape.ts';
import type { Value } from '../program.ts';
import { flopsOf } from '../work.ts';
import { arrayRefusal } from './loop.ts';
import type { Lowerings } from './lowering.ts';
import { type KnownValues, leaves, nameOf, type StepWriter } from './step.ts';

/** Lowering of tuples, and of the instructions that call a computation. */
export const structure: Lowerings<'tuple' | 'get-tuple-element' | 'fusion'> = {
  tuple: {
    loop: {
      elements: (it, point, to) => it.operands.map((operand) => to.valueOf(operand, point)),
      refusal: (it, { isRoot }) =>
        isRoot && it.operands.every(({ shape }) => isArray(shape)) ? undefined : 'a nested tuple',
    },
    name: (it, to) => it.operands.flatMap((operand) => to.valuesOf(operand)),
  },
  'get-tuple-element': {
    loop: {
      element: (it, point, to) => at(to.valuesOf(at(it.operands, 0), point), it.index),
      refusal: (it, { hasElements }) =>
        hasElements(at(it.operands, 0)) ? arrayRefusal(it.shape) : 'an element of a tuple',
    },
    name: tupleElement,
  },
  fusion: { unit: fusedLoop },
};

/** Returns the values of one element of a tuple. The element may be a tuple itself. */
function tupleElement({ operands, index }: GetTupleElement, to: KnownValues): readonly Value[] {
  const source = at(operands, 0);
  const { shape } = source;
  assert(shape.type === 'tuple', `${source.opcode} has elements`);
  const before = shape.elements.slice(0, index).flatMap(leaves).length;
  const count = leaves(at(shape.elements, index)).length;
  return to.valuesOf(source).slice(before, before + count);
}

/** Adds one call of a generated function on the vector unit. */
function fusedLoop(it: Fusion, to: StepWriter): readonly Value[] {
  const sources = it.operands.map((x) => to.valueOf(x));
  const targets = leaves(it.shape).map((shape, i, all) => ({
    ...to.fresh(it, shape),
    name: all.length === 1 ? nameOf(it) : `${nameOf(it)}/${i}`,
  }));
  if (targets.every(({ shape }) => elementCount(shape) === 0)) return targets;
  const number = to.functionOf(it);
  const flops = flopsOf(it);
  const phase = to.phaseOf(it);
  to.push({
    reads: sources,
    writes: targets,
    inPlace: targets.map((_, i) => to.inPlace(it.body, i)),
    instruction: (buffer) => ({
      unit: 'vpu',
      name: nameOf(it),
      phase,
      function: number,
      sources: sources.map(buffer),
      targets: targets.map(buffer),
      flops,
    }),
  });
  return targets;
}
