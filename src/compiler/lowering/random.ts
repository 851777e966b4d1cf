import type { RngBitGenerator } from '../../hlo/instruction.ts';
import { assert, at } from '../../numerics/assert.ts';
import type { Value } from '../program.ts';
import type { Lowerings } from './lowering.ts';
import { leaves, nameOf, type StepWriter } from './step.ts';

/** Lowering of the random number generator. */
export const random: Lowerings<'rng-bit-generator'> = {
  'rng-bit-generator': { unit: randomBits },
};

function randomBits(it: RngBitGenerator, to: StepWriter): readonly Value[] {
  const state = to.valueOf(at(it.operands, 0));
  const [newState, bits] = leaves(it.shape).map((shape) => to.fresh(it, shape));
  assert(newState !== undefined && bits !== undefined, 'a generator makes a state and bits');
  const phase = to.phaseOf(it);
  to.push({
    reads: [state],
    writes: [newState, bits],
    inPlace: [[0], []],
    instruction: (buffer) => ({
      unit: 'rng',
      name: nameOf(it),
      phase,
      state: buffer(state),
      newState: buffer(newState),
      bits: buffer(bits),
    }),
  });
  return [newState, bits];
}
