import type { Opcode } from '../../hlo/instruction.ts';
import type { Loop } from './loop.ts';
import type { Name, Unit } from './step.ts';

/**
 * How an opcode becomes code. There are four ways:
 *
 * - `loop`: a fused loop computes it, element by element.
 * - `unit`: it is a step of its own, which a unit of the core executes.
 * - `name`: it needs no code, because it only gives another name to values.
 * - `plain`: plain code computes it by its definition, slowly. The text is the reason why no unit
 *   computes it.
 *
 * An opcode may have `loop` and either `unit` or `name`. `loop` then says what the opcode is inside a
 * fused loop, and the other way says what it is outside. An opcode without `loop` never
 * stands inside a fused loop, because `supports` (codegen/supports.ts) refuses it there. Plain code
 * also computes an instruction that the fast way of its opcode refuses, see plain.ts.
 */
export type Lowering<O extends Opcode> =
  | { readonly loop: Loop<O>; readonly unit?: never; readonly name?: never; readonly plain?: never }
  | {
      readonly loop?: Loop<O>;
      readonly unit: Unit<O>;
      readonly name?: never;
      readonly plain?: never;
    }
  | {
      readonly loop?: Loop<O>;
      readonly name: Name<O>;
      readonly unit?: never;
      readonly plain?: never;
    }
  | { readonly plain: string; readonly loop?: never; readonly unit?: never; readonly name?: never };

/** The lowering of each opcode in `O`, such as the opcodes of one family. */
export type Lowerings<O extends Opcode> = { readonly [P in O]: Lowering<P> };
