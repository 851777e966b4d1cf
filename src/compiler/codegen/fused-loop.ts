import type { HloComputation } from '../../hlo/instruction.ts';

/**
 * A fused computation that runs as one generated function. The parameters of `body` are the source
 * buffers. The root of `body`, an array or a tuple of arrays, gives the target buffers. Buffers are
 * dense (without padding) and row-major: f32, s32 and u32 take four bytes, bf16 two, pred one (0 or
 * 1). The function takes i32 byte addresses: first those of the sources, then those of the targets.
 * It returns nothing. A call computes one copy of the targets, such as the copy of one core.
 *
 * Three functions work on fused loops:
 * - `supports(body)` (supports.ts) returns true, or the reason why the body cannot be a loop;
 * - `generate(loops)` (generate.ts) returns a WASM module that imports `env.memory` and exports one
 *   function for each loop: `f0`, `f1`, …;
 * - `inPlace(body, target)` (supports.ts) returns the parameters whose memory a target may take.
 *   The target must not overlap with any other source, nor with another target.
 */
export interface FusedLoop {
  /** Name of the fusion instruction that became this loop. */
  readonly name: string;
  readonly body: HloComputation;
}
