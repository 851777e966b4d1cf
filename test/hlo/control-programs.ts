import * as b from '../../src/hlo/build.ts';
import * as control from '../../src/hlo/build-control.ts';
import * as ordering from '../../src/hlo/build-ordering.ts';
import type { HloComputation, HloInstruction } from '../../src/hlo/instruction.ts';
import { assert, at } from '../../src/numerics/assert.ts';
import type { ElementType } from '../../src/numerics/element-type.ts';
import { type ArrayShape, arrayShape, isArray, tupleShape } from '../../src/numerics/shape.ts';
import { floats, numbers } from './type-lists.ts';

/** What the rules of this file need of the builder of a random program (programs.ts). */
export interface Draws {
  readonly draw: (count: number) => number;
  readonly pick: (types?: readonly ElementType[], rankMin?: number) => HloInstruction;
  readonly like: (shape: ArrayShape) => HloInstruction;
  readonly named: (name: string) => string;
}

type Rule = (builder: Draws) => readonly HloInstruction[];

/** Rules of the opcodes that call computations or sort, for random programs. */
export const controlRules: {
  readonly [O in 'sort' | 'topk' | 'call' | 'conditional' | 'while' | 'opt-barrier' | 'map']: Rule;
} = {
  sort: (builder) => {
    const first = builder.pick(undefined, 1);
    const { dims } = shapeOf(first);
    const dimension = builder.draw(dims.length);
    const others = Array.from({ length: builder.draw(3) }, () =>
      builder.like(arrayShape(shapeOf(builder.pick(numbers)).type, dims)),
    );
    const all = [first, ...others];
    const sorted = ordering.sort(all, dimension, comparatorOf(builder, all));
    return all.length === 1 ? [sorted] : all.map((_, i) => b.getTupleElement(sorted, i));
  },
  topk: (builder) => {
    const x = builder.pick(numbers, 1);
    const k = builder.draw(shapeOf(x).dims.at(-1)! + 1);
    const result = ordering.topk(x, k, builder.draw(2) === 0);
    return [b.getTupleElement(result, 0), b.getTupleElement(result, 1)];
  },
  call: (builder) => {
    const x = builder.pick(numbers);
    const y = builder.like(shapeOf(x));
    const [p, q] = [x, y].map(({ shape }, i) => b.parameter(i, shape));
    const body = b.computation(builder.named('called'), [p!, q!], b.maximum(b.add(p!, q!), q!));
    return [control.call(body, [x, y])];
  },
  conditional: (builder) => {
    const x = builder.pick(numbers);
    const isIndexed = builder.draw(2) === 0;
    const selector = builder.like(arrayShape(isIndexed ? 's32' : 'pred', []));
    const count = isIndexed ? 1 + builder.draw(3) : 2;
    const branches = Array.from({ length: count }, () => stepOf(builder, shapeOf(x)));
    const operands = branches.map(() => builder.like(shapeOf(x)));
    return [control.conditional(selector, branches, operands)];
  },
  while: (builder) => {
    const x = builder.pick(numbers);
    const shape = tupleShape([arrayShape('s32', []), shapeOf(x)]);
    const [p, q] = [b.parameter(0, shape), b.parameter(0, shape)];
    const trips = b.scalar('s32', builder.draw(4));
    const isMore = b.compare('LT', b.getTupleElement(p, 0), trips);
    const count = b.add(b.getTupleElement(q, 0), b.scalar('s32', 1));
    const step = control.call(stepOf(builder, shapeOf(x)), [b.getTupleElement(q, 1)]);
    const result = control.whileLoop(
      b.tuple([b.scalar('s32', 0), x]),
      b.computation(builder.named('condition'), [p], isMore),
      b.computation(builder.named('trip'), [q], b.tuple([count, step])),
    );
    return [b.getTupleElement(result, 0), b.getTupleElement(result, 1)];
  },
  'opt-barrier': (builder) => {
    const all = b.tuple([builder.pick(), builder.pick()]);
    return [b.getTupleElement(control.optBarrier(all), builder.draw(2))];
  },
  map: (builder) => {
    const x = builder.pick(numbers);
    const { type, dims } = shapeOf(x);
    const y = builder.like(arrayShape(type, dims));
    const [p, q] = [0, 1].map((i) => b.parameter(i, arrayShape(type, [])));
    const body = b.computation(builder.named('element'), [p!, q!], b.minimum(b.add(p!, p!), q!));
    return [control.scalarMap([x, y], body)];
  },
};

/** Returns a comparator that compares the first elements of two groups. */
function comparatorOf(builder: Draws, operands: readonly HloInstruction[]): HloComputation {
  const parameters = operands
    .flatMap(({ shape }) => [shape, shape])
    .map((shape, i) => b.parameter(i, arrayShape((shape as ArrayShape).type, [])));
  const direction = builder.draw(2) === 0 ? 'LT' : 'GT';
  const isTotal = isFloat(at(parameters, 0)) && builder.draw(2) === 0;
  const order = isTotal ? 'total' : undefined;
  const isFirst = b.compare(direction, parameters[0]!, parameters[1]!, order);
  return b.computation(builder.named('compare'), parameters, isFirst);
}

function isFloat({ shape }: HloInstruction): boolean {
  return isArray(shape) && floats.includes(shape.type);
}

/** Returns a computation of one array. */
function stepOf(builder: Draws, shape: ArrayShape): HloComputation {
  const x = b.parameter(0, shape);
  const one = b.full(shape.type, shape.dims, 1);
  const root = builder.draw(2) === 0 ? b.add(x, x) : b.maximum(x, one);
  return b.computation(builder.named('step'), [x], root);
}

/** Returns the shape of an instruction that is an array (asserted). */
export function shapeOf({ shape }: HloInstruction): ArrayShape {
  assert(isArray(shape), 'the pool holds arrays');
  return shape;
}
