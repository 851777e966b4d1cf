import type {
  AllReduce,
  Constant,
  Fusion,
  HloComputation,
  HloInstruction,
  InstructionOf,
  Opcode,
  ReplicaId,
} from '../../hlo/instruction.ts';
import type { Copies, Exchange, Phase } from '../../isa/executable.ts';
import { type ArrayShape, isArray, leafShapes, type Shape } from '../../numerics/shape.ts';
import type { Step, Value } from '../program.ts';

/**
 * Lowering of an opcode that a unit of the core executes: adds the steps of the instruction to the
 * program and returns the values that they compute, one for each array of the result.
 */
export type Unit<O extends Opcode> = (it: InstructionOf<O>, to: StepWriter) => readonly Value[];

/**
 * Lowering of an opcode that needs no step, because it only gives another name to values that
 * exist. Returns these values, one for each array of the result.
 */
export type Name<O extends Opcode> = (it: InstructionOf<O>, to: KnownValues) => readonly Value[];

/** An exchange of rows (isa/executable.ts) before buffer assignment. */
export interface LoweredExchange extends Pick<Exchange, 'pattern' | 'rowBytes'> {
  readonly source: Value;
  readonly target: Value;
}

/** Returns the indices of those parameters of `body` whose memory output `target` may overwrite. */
export type InPlace = (body: HloComputation, target: number) => readonly number[];

/** Values that exist before the steps of an instruction run. */
export interface KnownValues {
  /** Returns the values of an instruction that has been lowered before, one for each array. */
  valuesOf(it: HloInstruction): readonly Value[];
  /** Returns the value of the program's parameter with the given index. */
  parameter(index: number): Value;
  /** Returns the value of a constant, and adds the data of the constant to the program. */
  constant(it: Constant): Value;
  /** Returns the value that holds the number of the replica on each core. */
  replicaId(it: ReplicaId): Value;
}

/**
 * Methods that the lowering of an opcode may call to add steps and values to the program. The class
 * `Lowering` (lower.ts) implements this interface.
 */
export interface StepWriter extends KnownValues {
  /** Returns the value of an instruction that has been lowered before and gives one array. */
  valueOf(it: HloInstruction): Value;
  /** Returns a new value, which a step of `it` will compute. */
  fresh(it: HloInstruction, shape: ArrayShape, kind?: Value['kind'], copies?: Copies): Value;
  /**
   * Returns the value to which a matmul writes its result: a part of a bucket if only an all-reduce
   * uses the result, else a new value.
   */
  matmulTarget(it: HloInstruction, shape: ArrayShape): Value;
  phaseOf(it: HloInstruction): Phase;
  /** Adds a step after all steps that have been added before. */
  push(step: Step): void;
  /** Returns the index of an offset table. Equal tables have one index. */
  tableIndex(table: Int32Array): number;
  /** Adds an array to the infeed and returns its index there. */
  addInfeed(shape: ArrayShape): number;
  /** Adds an array to the outfeed and returns its index there. */
  addOutfeed(element: { readonly shape: ArrayShape; readonly copies: Copies }): number;
  /** Returns the index of the generated function for a fused loop. */
  functionOf(it: Fusion): number;
  readonly inPlace: InPlace;
  /** Adds an exchange of rows and returns its index. */
  addExchange(exchange: LoweredExchange): number;
  /** Adds the step that starts an all-reduce. Returns the sums, which later steps may read. */
  startAllReduce(it: AllReduce): readonly Value[];
}

/**
 * Returns the arrays in a shape. For a tuple, returns the arrays of its elements, depth first. A
 * token has no arrays.
 */
export function leaves(shape: Shape): ArrayShape[] {
  return leafShapes(shape).filter(isArray);
}

/** Returns the name of the steps and values of an instruction. */
export function nameOf(it: HloInstruction): string {
  return it.name ?? it.opcode;
}
