import type { Literal } from '../numerics/literal.ts';
import type { Mxu } from './mxu.ts';
import type { VectorUnit } from './vector-unit.ts';

/** The units of a Cloud TPU's cores. All units work on the same shared memory. */
export interface CoreUnits {
  readonly memory: WebAssembly.Memory;
  readonly mxu: Mxu;
  readonly vector: VectorUnit;
  /**
   * Returns the largest number of rows of the result that one MXU call may compute, for a matmul of
   * `n` columns and depth `k`. A matmul with more rows is cut into several calls, because the
   * progress counter (`Ports.beat`) can advance only between calls. If the counter stood still for
   * long, the Cloud TPU would seem lost. The cuts do not change the result, because each row is
   * computed independently.
   */
  readonly rowsPerCall: (n: number, k: number) => number;
  /**
   * Returns the function that runs a module in HLO text on arrays: one for each parameter. It
   * returns one array for each result. See `PlainInstruction` in isa/executable.ts.
   */
  readonly plainCode: (module: string) => PlainCode;
}

/** A module that plain code runs: takes an array for each parameter, and returns the results. */
export type PlainCode = (operands: readonly Literal[]) => readonly Literal[];
