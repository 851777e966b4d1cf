import type { RngBitGenerator } from '../../hlo/instruction.ts';
import { assert, at } from '../../numerics/assert.ts';
import type { Value } from '../program.ts';
import type { Lowerings } from './lowering.ts';
import { leaves, nameOf, type StepWriter } from './step.ts';

/** Lowering of the random number generator, and of the rounding that uses random bits. */
export const random: Lowerings<'rng-bit-generator' | 'stochastic-convert'> = {
  'rng-bit-generator': {
    unit: randomBits,
    refusal: (it) =>
      isOnRngUnit(it) ? undefined : 'the generator of the core makes u32 of Philox from u32[4]',
  },
  'stochastic-convert': { plain: 'no unit of the core rounds at random' },
};

/** True if the core's generator can make the random bits: u32 of Philox, with the state u32[4]. */
export function isOnRngUnit({ algorithm, shape }: RngBitGenerator): boolean {
  const types = leaves(shape).map(({ type }) => type);
  return algorithm !== 'rng_three_fry' && types.every((type) => type === 'u32');
}

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
