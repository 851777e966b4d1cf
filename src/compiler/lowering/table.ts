import type { HloInstruction, Opcode } from '../../hlo/instruction.ts';
import { choice } from './choice.ts';
import { collective } from './collective.ts';
import { contraction } from './contraction.ts';
import { control } from './control.ts';
import { conversion } from './conversion.ts';
import { elementwise } from './elementwise.ts';
import { host } from './host.ts';
import { identity } from './identity.ts';
import { indexed } from './indexed.ts';
import { leaf } from './leaf.ts';
import { linearAlgebra } from './linear-algebra.ts';
import type { Lowering, Lowerings } from './lowering.ts';
import { normalization } from './normalization.ts';
import { ordering } from './ordering.ts';
import { random } from './random.ts';
import { rearranging } from './rearranging.ts';
import { reduction } from './reduction.ts';
import { structure } from './structure.ts';

/**
 * The lowering of every opcode: how a fused loop computes it, and what it becomes outside of loops.
 * An opcode without an entry is a compile error here.
 */
export const lowerings: Lowerings<Opcode> = {
  ...leaf,
  ...elementwise,
  ...choice,
  ...conversion,
  ...rearranging,
  ...reduction,
  ...contraction,
  ...random,
  ...collective,
  ...host,
  ...structure,
  ...ordering,
  ...indexed,
  ...control,
  ...normalization,
  ...linearAlgebra,
  ...identity,
};

/**
 * Returns the lowering of an instruction's opcode. Its functions take this instruction, and others
 * with the same opcode, so the caller passes the instruction `as never`.
 */
export function loweringOf(it: HloInstruction): Lowering<never> {
  return lowerings[it.opcode];
}
