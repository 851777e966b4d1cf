import type {
  Buffer,
  BufferId,
  ConstantData,
  Copies,
  Instruction,
  Phase,
} from '../isa/executable.ts';
import { type ArrayShape, byteCount } from '../numerics/shape.ts';
import { tpuV2 } from '../spec/tpu-v2.ts';

/**
 * An array that instructions read and write. Buffer assignment gives the array a place in memory.
 */
export interface Value {
  readonly name: string;
  readonly kind: Buffer['kind'];
  readonly shape: ArrayShape;
  readonly copies: Copies;
  /**
   * Set if this value is a part of another value: `base` is the other value, and `offset` is the
   * start of the part, in bytes.
   */
  readonly within?: { readonly base: Value; readonly offset: number };
}

/**
 * An instruction of the executable, before buffer assignment. The values that the instruction reads
 * and writes have no buffers and addresses yet.
 */
export interface Step {
  readonly reads: readonly Value[];
  readonly writes: readonly Value[];
  /**
   * `inPlace[w]` lists values that the step reads, as indices in `reads`. The value `writes[w]` may
   * take the memory of one of them and overwrite it.
   */
  readonly inPlace?: readonly (readonly number[])[];
  readonly instruction: (buffer: (value: Value) => BufferId) => Instruction;
}

/**
 * Steps in execution order, and the values that exist outside of the steps: parameters and
 * constants (before the first step) and results (after the last step).
 */
export interface Program {
  readonly steps: readonly Step[];
  /**
   * `parameters[p]`: value of parameter p. It is in memory from before the first step until after
   * the last step.
   */
  readonly parameters: readonly Value[];
  readonly constants: readonly { readonly value: Value; readonly data: ConstantData }[];
  /**
   * The caller reads the results after the last step. `results[i]` is the value of array i of the
   * root tuple, and `resultShapes[i]` is the shape of array i. The value may have another shape,
   * because a reshape does not make a new value.
   */
  readonly results: readonly Value[];
  readonly resultShapes: readonly ArrayShape[];
  /**
   * Results that replace parameters. Each pair has the index of the result and the index of the
   * parameter that the result replaces.
   */
  readonly aliases: readonly { readonly result: number; readonly parameter: number }[];
}

/**
 * Returns the value that owns the memory of `value`. If `value` is a part of another value, this is
 * the other value; otherwise it is `value` itself.
 */
export function baseOf(value: Value): Value {
  return value.within === undefined ? value : baseOf(value.within.base);
}

/** Returns how many copies of a value the emulator holds for a Cloud TPU of `cores` cores. */
export function copiesOf(copies: Copies, cores: number): number {
  switch (copies) {
    case 'shared':
      return 1;
    case 'chip':
      return Math.ceil(cores / tpuV2.coresPerChip);
    case 'core':
      return cores;
  }
}

/**
 * Returns a step that copies the whole value `source` to `target`. If `target` has several copies
 * (for cores or chips), the step writes all of them.
 */
export function copyStep(source: Value, target: Value, phase: Phase): Step {
  return {
    reads: [source],
    writes: [target],
    instruction: (buffer: (value: Value) => BufferId) => ({
      unit: 'copy',
      name: target.name,
      phase,
      source: buffer(source),
      sourceOffset: 0,
      target: buffer(target),
      targetOffset: 0,
      bytes: byteCount(target.shape),
    }),
  };
}
