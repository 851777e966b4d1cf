import type { HloComputation } from '../../hlo/instruction.ts';

/**
 * A fused computation that runs as one generated function. Parameters of `body` are the source
 * buffers, and its root (an array, or a tuple of arrays) is the target buffers. Buffers are dense
 * and row-major: f32, s32 and u32 in four bytes, bf16 in two, pred in one (0 or 1). The function
 * takes the i32 byte addresses of the sources in order of parameter number, then those of the
 * targets in order of the tuple. It returns nothing, and computes one copy (that of one core).
 *
 * Three functions take fused loops:
 * - `supports(body)` (supports.ts) returns true, or the reason why the body cannot be a loop;
 * - `generate(loops)` (generate.ts) returns a WASM module that imports `env.memory` and exports one
 *   function for each loop: `f0`, `f1`, …;
 * - `inPlace(body, target)` (supports.ts) returns the parameters whose memory a target may take.
 *   Targets must not overlap with sources, or with one another, in any other way.
 */
export interface FusedLoop {
  /** Name of the fusion that the loop comes from. */
  readonly name: string;
  readonly body: HloComputation;
}
