import type { HloInstruction } from '../../hlo/instruction.ts';
import { PodError } from '../../numerics/error.ts';
import type { Lowerings } from './lowering.ts';
import { nameOf } from './step.ts';

type Collective =
  | 'all-reduce'
  | 'all-gather'
  | 'reduce-scatter'
  | 'all-to-all'
  | 'collective-permute'
  | 'collective-broadcast';

/** Lowering of the collectives. The class `Buckets` (buckets.ts) adds the steps of an all-reduce. */
export const collective: Lowerings<Collective> = {
  'all-reduce': { unit: (it, to) => to.startAllReduce(it) },
  'all-gather': { unit: refused },
  'reduce-scatter': { unit: refused },
  'all-to-all': { unit: refused },
  'collective-permute': { unit: refused },
  'collective-broadcast': { unit: refused },
};

/** Refuses a collective that the links do not run. */
function refused(it: HloInstruction): never {
  const name = nameOf(it) === it.opcode ? it.opcode : `${it.opcode} ${nameOf(it)}`;
  const message = `${name}: expected an all-reduce, the only collective that the links run`;
  throw new PodError('unsupported-program', message);
}
