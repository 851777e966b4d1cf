import type { Buffer, BufferId, Copies, Instruction, Phase } from '../isa/executable.ts';
import { type ArrayShape, byteCount } from '../numerics/shape.ts';
import { tpuV2 } from '../spec/tpu-v2.ts';

/** An array that instructions read and write. Buffer assignment gives it a place in memory. */
export interface Value {
  readonly name: string;
  readonly kind: Buffer['kind'];
  readonly shape: ArrayShape;
  readonly copies: Copies;
  /** Set if this value is a part of the value `base`, `offset` bytes from its start. */
  readonly within?: { readonly base: Value; readonly offset: number };
}

/** An instruction of the executable before its values have buffers and addresses. */
export interface Step {
  readonly reads: readonly Value[];
  readonly writes: readonly Value[];
  /** For each value in `writes`: positions in `reads` of the values whose memory it may take. */
  readonly inPlace?: readonly (readonly number[])[];
  readonly instruction: (buffer: (value: Value) => BufferId) => Instruction;
}

/** Steps in execution order, with the values that exist before the first or after the last one. */
export interface Program {
  readonly steps: readonly Step[];
  /** By parameter number; in memory from before the first step to after the last. */
  readonly parameters: readonly Value[];
  readonly constants: readonly { readonly value: Value; readonly data: Uint8Array }[];
  /**
   * Arrays of the root tuple, which are read after the last step. Their shapes are in
   * `resultShapes`, because a reshape changes the shape and keeps the value.
   */
  readonly results: readonly Value[];
  readonly resultShapes: readonly ArrayShape[];
  /** Pairs of a result and the parameter whose place it takes, both by position. */
  readonly aliases: readonly { readonly result: number; readonly parameter: number }[];
}

/** The value that owns the memory of `value`. */
export function baseOf(value: Value): Value {
  return value.within === undefined ? value : baseOf(value.within.base);
}

/** Number of copies that the emulator holds on `cores` cores. */
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

/** A step that copies a whole value to each copy of `target`. */
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
