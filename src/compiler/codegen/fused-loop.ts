import type { HloComputation } from '../../hlo/instruction.ts';

/**
 * A fused computation that runs as one generated function. Parameters of `body` are source
 * buffers and its root (an array, or a tuple of arrays) is the target buffers: dense, row-major;
 * f32, s32 and u32 in four bytes, bf16 in two, pred in one (0 or 1). The function takes the i32
 * byte addresses of the sources in order of parameter number, then of the targets in order of the
 * tuple, returns nothing, and computes one copy (one core's).
 *
 * The three questions one can ask of loops are free functions:
 * - `supports(body)` (supports.ts): true, or why it does not make a loop;
 * - `generate(loops)` (generate.ts): a WASM module that imports `env.memory` and exports `f0`, …;
 * - `inPlace(body, target)` (supports.ts): the parameters whose memory that target may take.
 *   Any other overlap of targets with sources, or with one another, is forbidden.
 */
export interface FusedLoop {
  /** Where it comes from, for the name section of the module and for error messages. */
  readonly name: string;
  readonly body: HloComputation;
}
