import { at } from '../../numerics/assert.ts';
import { arrayRefusal, operandElement } from './loop.ts';
import type { Lowerings } from './lowering.ts';

const plain = 'an executable has no programs inside';

/**
 * Lowering of the operations that decide which computation runs, how often, and when. A barrier
 * needs no code, because it stands outside of all loops, and steps run in the order of the program.
 * The first compiler pass inlines calls, so no call reaches this table.
 */
export const control: Lowerings<'call' | 'conditional' | 'while' | 'opt-barrier' | 'map'> = {
  call: { plain: 'the first pass inlines calls' },
  conditional: { plain },
  while: { plain },
  'opt-barrier': { name: (it, to) => to.valuesOf(at(it.operands, 0)) },
  map: {
    loop: {
      element: (it, point, to) => {
        const elements = it.operands.map((_, i) => operandElement(it, i, point, to));
        return at(to.apply(it.body, elements), 0);
      },
      refusal: (it, { ofBody }) => ofBody(it.body) ?? arrayRefusal(it.shape),
    },
  },
};
