import type {
  AllGather,
  AllToAll,
  CollectiveBroadcast,
  CollectivePermute,
  ReduceScatter,
} from '../../hlo/instruction.ts';
import type { ExchangePattern } from '../../isa/executable.ts';
import { assert, at, broken } from '../../numerics/assert.ts';
import { byteCount } from '../../numerics/shape.ts';
import type { Value } from '../program.ts';
import type { Lowerings } from './lowering.ts';
import { nameOf, type StepWriter } from './step.ts';

type Collective =
  | 'all-reduce'
  | 'all-gather'
  | 'reduce-scatter'
  | 'all-to-all'
  | 'collective-permute'
  | 'collective-broadcast';

/**
 * Lowering of the collectives, in the form that the pass `canonicalize` gives them. The class
 * `Buckets` (buckets.ts) adds the steps of an all-reduce. All others are exchanges of rows.
 */
export const collective: Lowerings<Collective> = {
  'all-reduce': { unit: (it, to) => to.startAllReduce(it) },
  'all-gather': {
    unit: (it, to) => exchange(it, { kind: 'all-gather', groups: it.groups }, 1, to),
  },
  'reduce-scatter': {
    unit: (it: ReduceScatter) => broken(`${nameOf(it)}: a reduce-scatter after canonicalize`),
  },
  'all-to-all': {
    unit: (it, to) =>
      exchange(it, { kind: 'all-to-all', groups: it.groups }, at(it.shape.dims, 0), to),
  },
  'collective-permute': {
    unit: (it, to) => exchange(it, { kind: 'collective-permute', pairs: it.pairs }, 1, to),
  },
  'collective-broadcast': {
    unit: (it, to) => exchange(it, { kind: 'collective-broadcast', groups: it.groups }, 1, to),
  },
};

/** Adds the step of an exchange in which a replica sends `rows` rows. */
function exchange(
  it: AllGather | AllToAll | CollectivePermute | CollectiveBroadcast,
  pattern: ExchangePattern,
  rows: number,
  to: StepWriter,
): readonly Value[] {
  const source = to.valueOf(at(it.operands, 0));
  const target = to.fresh(it, it.shape);
  const rowBytes = byteCount(source.shape) / Math.max(1, rows);
  assert(rowBytes % 4 === 0, `${nameOf(it)}: rows of ${rowBytes} bytes, not whole words`);
  const index = to.addExchange({ pattern, source, target, rowBytes });
  to.push({
    reads: [source],
    writes: [target],
    instruction: () => ({
      unit: 'exchange',
      name: nameOf(it),
      phase: 'all-reduce',
      exchange: index,
    }),
  });
  return [target];
}
