import type { Opcode } from '../../hlo/instruction.ts';
import type { Loop } from './loop.ts';
import type { Name, Unit } from './step.ts';

/**
 * How an opcode becomes code. There are three ways:
 *
 * - `loop`: a fused loop computes it, element by element.
 * - `unit`: it is a step of its own, which a unit of the core executes.
 * - `name`: it needs no code, because it only gives another name to values.
 *
 * An opcode may have `loop` and one of the other two. `loop` then says what the opcode is inside a
 * fused loop, and the other way says what it is outside. An opcode with only `loop` never stands
 * outside, because the pass `fusion` puts it into a fused loop. An opcode without `loop` never
 * stands inside a fused loop, because `supports` (codegen/supports.ts) refuses it there.
 */
export type Lowering<O extends Opcode> =
  | { readonly loop: Loop<O>; readonly unit?: undefined; readonly name?: undefined }
  | { readonly loop?: Loop<O>; readonly unit: Unit<O>; readonly name?: undefined }
  | { readonly loop?: Loop<O>; readonly name: Name<O>; readonly unit?: undefined };

/** The lowering of each opcode in `O`, such as the opcodes of one family. */
export type Lowerings<O extends Opcode> = { readonly [P in O]: Lowering<P> };
