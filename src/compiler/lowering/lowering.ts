import type { InstructionOf, Opcode } from '../../hlo/instruction.ts';
import type { Loop } from './loop.ts';
import type { Name, Unit } from './step.ts';

/**
 * How an opcode becomes code. There are four ways:
 *
 * - `loop`: a fused loop computes it, element by element.
 * - `unit`: it is a step of its own, which a unit of the core executes. `refusal` returns the reason
 *   why the unit cannot execute an instruction; undefined if it can.
 * - `name`: it needs no code, because it only gives another name to values.
 * - `plain`: plain code computes it by its definition, slowly. The text is the reason why no unit
 *   computes it.
 *
 * An opcode may have `loop` and either `unit` or `name`. `loop` then says what the opcode is inside a
 * fused loop, and the other way says what it is outside. An opcode without `loop` never stands inside
 * a fused loop, because `supports` (codegen/supports.ts) refuses it there. Plain code also computes an
 * instruction that the fast way of its opcode refuses.
 */
export type Lowering<O extends Opcode> =
  | Has<O, 'loop'>
  | Has<O, 'unit', 'loop' | 'refusal'>
  | Has<O, 'name', 'loop'>
  | Has<O, 'plain'>;

interface Ways<O extends Opcode> {
  readonly loop: Loop<O>;
  readonly unit: Unit<O>;
  readonly refusal: (it: InstructionOf<O>) => string | undefined;
  readonly name: Name<O>;
  readonly plain: string;
}

/** Has the ways `Must`, may have the ways `May`, and has no other way. */
type Has<O extends Opcode, Must extends keyof Ways<O>, May extends keyof Ways<O> = never> = Pick<
  Ways<O>,
  Must
> &
  Partial<Pick<Ways<O>, May>> & {
    readonly [K in Exclude<keyof Ways<O>, Must | May>]?: never;
  };

/** The lowering of each opcode in `O`, such as the opcodes of one family. */
export type Lowerings<O extends Opcode> = { readonly [P in O]: Lowering<P> };
