import type { Buffer, BufferId, Copies, Instruction, Phase } from '../isa/executable.ts';
import { type ArrayShape, byteCount } from '../numerics/shape.ts';
import { tpuV2 } from '../spec/tpu-v2.ts';

/** An array that the program holds at some time: what instructions read and write. */
export interface Value {
  readonly name: string;
  readonly kind: Buffer['kind'];
  readonly shape: ArrayShape;
  readonly copies: Copies;
  /** Lies inside of another value: `offset` bytes from its start. */
  readonly within?: { readonly base: Value; readonly offset: number };
}

/** An instruction of the executable to be, whose buffers have no addresses yet. */
export interface Step {
  readonly reads: readonly Value[];
  readonly writes: readonly Value[];
  /** For each written value, which of `reads` (by position) it may take the memory of. */
  readonly inPlace?: readonly (readonly number[])[];
  readonly instruction: (buffer: (value: Value) => BufferId) => Instruction;
}

/** Steps in the order in which they run, and what holds values outside of them. */
export interface Program {
  readonly steps: readonly Step[];
  /** In memory from before the first step to after the last, by parameter number. */
  readonly parameters: readonly Value[];
  readonly constants: readonly { readonly value: Value; readonly data: Uint8Array }[];
  /** Arrays of the root tuple; read after the last step. A value may have gone through reshapes. */
  readonly results: readonly Value[];
  readonly resultShapes: readonly ArrayShape[];
  /** Which result takes the place of which parameter, both by position. */
  readonly aliases: readonly { readonly result: number; readonly parameter: number }[];
}

/** The value that owns the memory of `value`. */
export function baseOf(value: Value): Value {
  return value.within === undefined ? value : baseOf(value.within.base);
}

/** Bytes of all the copies that the emulator holds. */
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

/** Copies the whole of a value, to each copy of the target. */
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
