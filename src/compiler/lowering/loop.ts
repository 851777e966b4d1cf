import type {
  HloComputation,
  HloInstruction,
  InstructionOf,
  Opcode,
  Parameter,
  SelectAndScatter,
} from '../../hlo/instruction.ts';
import { at } from '../../numerics/assert.ts';
import { coreTypes } from '../../numerics/element-type.ts';
import { isArray, type Shape, shapeText } from '../../numerics/shape.ts';
import type { Affine } from '../codegen/affine.ts';
import type { Lanes } from '../codegen/lanes.ts';
import { arrayOf, type Point, type Value } from '../codegen/value.ts';
import type { Place } from '../codegen/window.ts';

/**
 * Code of an opcode inside fused loops. `element` writes the code that computes one element of an
 * array at a point. `elements` is for a tuple: it returns one element for each array of the tuple.
 */
export type Loop<O extends Opcode> = LoopConditions<O> &
  (
    | { readonly element: ElementCode<O, Value>; readonly elements?: undefined }
    | { readonly elements: ElementCode<O, readonly Value[]>; readonly element?: undefined }
  );

/** Function that writes the code for the elements of `it` at a point. */
export type ElementCode<O extends Opcode, V> = (
  it: InstructionOf<O>,
  point: Point,
  to: ElementWriter,
) => V;

interface LoopConditions<O extends Opcode> {
  /**
   * Returns the reason, in a few words, why a fused loop cannot compute `it`; undefined if it can.
   * Default: `arrayRefusal` of the instruction's shape.
   */
  readonly refusal?: (it: InstructionOf<O>, context: RefusalContext) => string | undefined;
  /**
   * True if the code of an element has loops. The body of a reduction must not use such an opcode,
   * because the body is written inside another loop, once for each element.
   */
  readonly hasLoops?: true;
}

/** Facts about the fused loop that the check of an instruction may use. */
export interface RefusalContext {
  /** True if the instruction is the root of the fused loop. */
  readonly isRoot: boolean;
  /**
   * Returns the reason why `body` cannot be the body of a reduction, or undefined if it can. Such a
   * body may compute with scalars only.
   */
  readonly ofBody: (body: HloComputation) => string | undefined;
  /** True if the code of `it` gives several elements, as the code of a reduce does. */
  readonly hasElements: (it: HloInstruction) => boolean;
}

/**
 * Methods of the writer of a fused loop that the code of an opcode may call. The class `Elements`
 * (codegen/element.ts) implements this interface.
 */
export interface ElementWriter {
  /** Writer of operations on the four SIMD lanes of a v128. */
  readonly lanes: Lanes;
  /** Returns the element of an array at a point, for all lanes. */
  valueOf(it: HloInstruction, point: Point): Value;
  /** Returns the elements of an array or a tuple at a point: one for each array. */
  valuesOf(it: HloInstruction, point: Point): readonly Value[];
  /** Returns the element of a parameter: loads it, or takes the argument of a called body. */
  parameter(it: Parameter, point: Point): Value;
  /**
   * Returns the element of a select-and-scatter. Only a nest of its own can compute the element,
   * and must have done so before.
   */
  scattered(it: SelectAndScatter, point: Point): Value;
  /** Returns the value of an index expression as s32, for the counter value of each lane. */
  indexLanes(index: Affine): Value;
  /** Returns `onTrue` in the lanes of the mask, and `onFalse` in the other lanes. */
  select(mask: Value, onTrue: Value, onFalse: Value): Value;
  /**
   * Finds, for each lane, the element of the array `it` at a place. In a dimension with step s,
   * neighbouring elements are s places apart, and no element lies between them. `places` has one
   * entry for each dimension. Returns undefined if no lane finds an element.
   */
  locate(it: HloInstruction, places: readonly Place[]): Located | undefined;
  /**
   * Returns the element of the array `it` at a place, as {@link locate} finds it. If no element lies
   * at the place, the result is `otherwise`.
   */
  spread(it: HloInstruction, places: readonly Place[], otherwise: () => Value): Value;
  /** Applies a computation on scalars to `args`, separately in every lane. Returns the results. */
  apply(computation: HloComputation, args: readonly Value[]): readonly Value[];
  /**
   * Writes a reduction, ((init ∘ x0) ∘ x1) ∘ …, as one nest of loops over the reduced dimensions,
   * in row-major order.
   */
  fold(spec: Fold): readonly Value[];
}

/** Result of {@link ElementWriter.locate}. */
export interface Located {
  /** Index of the element; in a lane that finds no element, the index of any valid element. */
  readonly point: Point;
  /** Mask of the lanes that find an element; undefined if all lanes do. */
  readonly inside: Value | undefined;
}

/** A reduction that computes the element of `it` at a point. */
export interface Fold {
  readonly it: HloInstruction;
  readonly point: Point;
  /** Sizes of the reduced dimensions. */
  readonly sizes: readonly number[];
  readonly inits: readonly Value[];
  readonly body: HloComputation;
  /** Writes the code of the elements to fold; `offsets` has the index in each reduced dimension. */
  readonly elements: (offsets: readonly Affine[]) => readonly Value[];
  /**
   * Number of elements that the reduction folds if each element of the result is computed once.
   * Loops around the reduction may compute an element of the result several times; the reduction
   * then folds more elements.
   */
  readonly of: number;
}

/**
 * Returns undefined for the shape of an array with which lanes can compute. For any other shape,
 * returns the reason why a fused loop cannot compute it.
 */
export function arrayRefusal(shape: Shape): string | undefined {
  return isArray(shape) && coreTypes.includes(shape.type)
    ? undefined
    : `a value of ${shapeText(shape)}`;
}

/**
 * Returns the element of operand `index` of `it` at a point. If the operand is a scalar, returns
 * the scalar.
 */
export function operandElement(
  it: HloInstruction,
  index: number,
  point: Point,
  to: ElementWriter,
): Value {
  const operand = at(it.operands, index);
  return to.valueOf(operand, arrayOf(operand).dims.length === 0 ? [] : point);
}
