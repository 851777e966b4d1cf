import type { ElementType, Scalar } from '../../numerics/element-type.ts';
import type { Literal } from '../../numerics/literal.ts';
import type { Shape } from '../../numerics/shape.ts';
import type { ScalarBody } from '../evaluate/reduce.ts';
import type { Value } from '../evaluate/value.ts';
import type { Draft, HloComputation, HloInstruction, OfOpcode } from '../instruction.ts';
import type { Attribute } from '../text/attribute.ts';
import type { Scanner } from '../text/scanner.ts';

/**
 * The definition of an opcode: all that hlo knows about it. Other code asks it for the family, the
 * effect and so on, and does not name opcodes one by one. Three tables beside the
 * definitions also have an entry for each opcode: its derivative (autodiff), its code (compiler)
 * and its cost (compiler).
 */
export type Definition<I extends HloInstruction = HloInstruction> = Traits<I> & Meaning<I>;

/**
 * What kind of operation an opcode is:
 *
 * - `leaf`: a value from outside of the computation;
 * - `elementwise`: each element of the result depends on the elements of the operands at the same
 *   index;
 * - `rearranging`: moves or repeats elements without changing them, or counts indices;
 * - `contraction`: sums of products, for the matrix unit;
 * - `reduction`: folds elements with a computation;
 * - `random`: makes random bits;
 * - `collective`: combines values of several replicas;
 * - `host`: exchanges data with the host, in the order of tokens;
 * - `structure`: makes tuples, takes them apart, or runs a fused loop;
 * - `ordering`: moves elements to places that follow from their values;
 * - `indexed`: moves elements from or to places that operands give;
 * - `control`: decides which computation runs, how often, and when;
 * - `normalization`: normalizes the features of an array;
 * - `linear-algebra`: decomposes matrices, or solves systems of equations.
 */
export type Family =
  | 'leaf'
  | 'elementwise'
  | 'rearranging'
  | 'contraction'
  | 'reduction'
  | 'random'
  | 'collective'
  | 'host'
  | 'structure'
  | 'ordering'
  | 'indexed'
  | 'control'
  | 'normalization'
  | 'linear-algebra';

/**
 * What an instruction does besides computing a value. `receives` and `sends` exchange data with the
 * host, `exchanges` exchanges data with other replicas, `orders` only orders other effects. An
 * instruction with an effect must stand in the entry computation.
 */
export type Effect = 'receives' | 'sends' | 'exchanges' | 'orders';

/** Whether the replicas get values that may differ, or the same value, see {@link Traits}. */
export type ReplicaValues = 'differ' | 'agree';

/** Combines one array of each replica into one array, with a computation on scalars. */
export type Combine = (values: readonly Literal[], body: HloComputation) => Literal;

/** What is known of an opcode besides the value that it computes. */
export interface Traits<I extends HloInstruction> {
  readonly family: Family;
  readonly effect?: Effect;
  /** Element types of the operands, for an element-wise operation that accepts only these. */
  readonly accepts?: readonly ElementType[];
  /**
   * `differ` if replicas may get different values from equal operands. `agree` if all replicas get
   * the same value, even from different operands. By default, the value differs exactly if an
   * operand does.
   */
  readonly replicas?: ReplicaValues | ((it: I) => ReplicaValues);
  /** True if the compiler must keep each such instruction, and must not join equal ones. */
  readonly isBarrier?: true;
  /** Attributes in HLO text, in the order in which they are printed. Default: none. */
  readonly attributes?: readonly Attribute<I>[];
  /** Text between the parentheses, for an opcode that has other text there than operands. */
  readonly content?: Content<I>;
  /** Returns the computations that an instruction calls. Default: none. */
  bodies?(it: I): readonly HloComputation[];
  /**
   * Infers the shape of the result from the shapes of the operands and from the attributes, by the
   * rules of XLA's Operation Semantics. Throws `bad-program` if the instruction breaks a rule.
   */
  infer(it: Draft<I>): Shape;
}

/** Definitions of a family: one for each opcode of the union `I`. */
export type DefinitionsOf<I extends HloInstruction> = {
  readonly [O in I['opcode']]: Definition<Extract<OfOpcode<I, O>, I>>;
};

/** What an opcode computes, in one of two forms. */
export type Meaning<I extends HloInstruction> =
  | {
      /** Computes the value on one replica, by the definition of the opcode. */
      evaluate(it: I, operands: readonly Value[], run: Run): Value;
      /**
       * Returns the function that computes one element from the elements of the operands at the
       * same index; undefined if it depends on more than the numbers. Only element-wise opcodes on
       * numbers have it.
       */
      element?(it: I): ((...values: Scalar[]) => Scalar) | undefined;
    }
  | {
      /**
       * Computes the values of all replicas, which `operands` and the result have in the order of
       * the replicas. `combine` combines one array of each replica into one array.
       */
      exchange(it: I, operands: readonly (readonly Value[])[], combine: Combine): readonly Value[];
    };

/** The run of a computation, as `evaluate` of an opcode sees it. */
export interface Run {
  /** Values of the computation's parameters. */
  readonly parameters: readonly Value[];
  /** Number of the replica that runs the computation. */
  readonly replica: number;
  /** Returns the arrays of the next entry of the infeed; none if there is no further entry. */
  receive(): readonly Literal[];
  send(arrays: readonly Literal[]): void;
  call(body: HloComputation, operands: readonly Value[]): Value;
  /** Returns a computation on scalars as a function of numbers. */
  scalar(body: HloComputation): ScalarBody;
}

/** How the text between the parentheses of an instruction is written and read. */
export interface Content<I extends HloInstruction> {
  /** `elementsMax` is the largest number of elements of a constant that is written in full. */
  write(it: I, elementsMax?: number): string;
  /** Returns the fields of the instruction. `shape` is the shape that the text states. */
  read(scanner: Scanner, shape: Shape): Partial<I>;
}
