import type { Infeed, Outfeed } from '../../hlo/instruction.ts';
import { at } from '../../numerics/assert.ts';
import type { Value } from '../program.ts';
import type { Lowerings } from './lowering.ts';
import { leaves, nameOf, type StepWriter } from './step.ts';

/**
 * Lowering of the exchange of data with the host. A token has no arrays, so `after-all` names no
 * values.
 */
export const host: Lowerings<'infeed' | 'outfeed' | 'after-all'> = {
  infeed: { unit: takeIn },
  outfeed: { unit: sendOut },
  'after-all': { name: () => [] },
};

function takeIn(it: Infeed, to: StepWriter): readonly Value[] {
  const values = leaves(it.shape).map((shape, i) => ({
    ...to.fresh(it, shape, 'infeed', 'core'),
    name: `${nameOf(it)}/${i}`,
  }));
  for (const target of values) {
    const element = to.addInfeed(target.shape);
    to.push({
      reads: [],
      writes: [target],
      instruction: (buffer) => ({
        unit: 'infeed',
        name: target.name,
        phase: 'infeed',
        element,
        target: buffer(target),
      }),
    });
  }
  return values;
}

function sendOut(it: Outfeed, to: StepWriter): readonly Value[] {
  const data = at(it.operands, 0);
  const shapes = leaves(data.shape);
  to.valuesOf(data).forEach((source, i) => {
    const element = to.addOutfeed({ shape: at(shapes, i), copies: source.copies });
    to.push({
      reads: [source],
      writes: [],
      instruction: (buffer) => ({
        unit: 'outfeed',
        name: `${nameOf(it)}/${i}`,
        phase: 'outfeed',
        element,
        source: buffer(source),
      }),
    });
  });
  return [];
}
