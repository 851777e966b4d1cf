import fc from 'fast-check';
import * as b from '../../src/hlo/build.ts';
import type { EvaluateInputs } from '../../src/hlo/evaluate.ts';
import {
  binaryOpcodes,
  type HloComputation,
  type HloInstruction,
  type HloModule,
  type Opcode,
  type Parameter,
  type Precision,
  unaryOpcodes,
  type WindowDimension,
} from '../../src/hlo/instruction.ts';
import { typesOf } from '../../src/hlo/ops.ts';
import { users } from '../../src/hlo/traverse.ts';
import { paddedSize, windowPositions } from '../../src/hlo/window.ts';
import { assert, at } from '../../src/numerics/assert.ts';
import { type ElementType, elementTypes, leastOf } from '../../src/numerics/element-type.ts';
import { type Literal, literal } from '../../src/numerics/literal.ts';
import { bits, type Key, stream, uniform } from '../../src/numerics/random.ts';
import {
  type ArrayShape,
  arrayShape,
  elementCount,
  isArray,
  product,
  sameShape,
} from '../../src/numerics/shape.ts';
import { algebraRules } from './algebra-programs.ts';
import { collectiveRules } from './collective-programs.ts';
import { controlRules } from './control-programs.ts';
import { indexedRules } from './indexed-programs.ts';
import { ieeeFloats, numbers } from './type-lists.ts';

export interface ProgramOptions {
  /**
   * Opcodes that a program may use. Default: all. A program may have parameters and tuples even if
   * their opcodes are not in this list.
   */
  readonly opcodes?: readonly Opcode[];
  /**
   * Element types of parameters and constants. Default: all types with which a core computes.
   */
  readonly types?: readonly ElementType[];
  /** True if inputs include NaN, infinities, −0, subnormals and huge numbers. Default: true. */
  readonly specials?: boolean;
  /**
   * Largest number of random choices from which a program is built. It limits the length of the
   * program, because each instruction takes about four choices. Default: 64.
   */
  readonly choicesMax?: number;
  /** Largest number of elements of an array. Default: 128. */
  readonly elementsMax?: number;
  /**
   * True if XLA must get the same result for a program in every way that it may compute it. All
   * matmuls then have the highest precision. XLA may use the initial value of a reduction several
   * times, so all reductions then have an initial value that changes nothing: 0 for a sum, the
   * least value for a maximum. Default: false.
   */
  readonly isPlain?: boolean;
}

export interface Program {
  readonly module: HloModule;
  /** Inputs for one replica: a value for each parameter, and data for each infeed instruction. */
  readonly inputs: EvaluateInputs;
}

/**
 * Generates well-typed random programs with inputs. A program is built from a list of random
 * numbers, its choices. When a test fails, fast-check shrinks this list, so the program gets short.
 */
export function arbitraryModule(options: ProgramOptions = {}): fc.Arbitrary<Program> {
  const choices = fc.array(fc.nat(0xffff), { minLength: 4, maxLength: options.choicesMax ?? 64 });
  return fc.tuple(choices, fc.nat()).map(([list, seed]) => programOf(list, seed, options));
}

/**
 * Returns a literal of random elements. Most elements are small. If `specials` is true, some are
 * special values, such as NaN. Equal arguments give equal elements.
 */
export function randomLiteral(shape: ArrayShape, key: Key, specials = true): Literal {
  const values = Array.from({ length: elementCount(shape) }, (_, i) =>
    randomValue(shape.type, key, i, specials),
  );
  return literal(shape.type, shape.dims, values);
}

const floatSpecials = [
  0,
  -0,
  1,
  -1,
  Number.NaN,
  Number.POSITIVE_INFINITY,
  Number.NEGATIVE_INFINITY,
  2 ** -149,
  -(2 ** -130),
  2 ** -126,
  2 ** -64,
  3e38,
  -3e38,
  2 ** 31,
  0.5,
  1.5,
];
const integerSpecials = [0, 1, -1, 31, 32, 33, 2 ** 31 - 1, -(2 ** 31)];

function randomValue(type: ElementType, key: Key, i: number, specials: boolean): number {
  const word = bits(key, 2 * i);
  const special = specials && (word & 7) === 0;
  switch (elementTypes[type].kind) {
    case 'pred':
      return word >>> 31;
    case 'signed':
      return special ? at(integerSpecials, (word >>> 3) & 7) : ((word >>> 16) % 21) - 10;
    case 'unsigned':
      return special ? at(integerSpecials, (word >>> 3) & 7) >>> 0 : (word >>> 16) % 21;
    default:
      if (special) return at(floatSpecials, (word >>> 3) & 15);
      return (2 * uniform(key, 2 * i + 1) - 1) * 2 ** (((word >>> 16) % 6) - 2);
  }
}

/** State of a program while it is built. */
interface Builder {
  /**
   * Takes the next random choice, and turns it into a number from 0 to `count` − 1. Returns 0 if no
   * choices are left.
   */
  readonly draw: (count: number) => number;
  readonly more: () => boolean;
  /** Returns a new array, which is a parameter or a constant. */
  readonly fresh: (shape: ArrayShape) => HloInstruction;
  /**
   * Returns an existing array with one of the given types and at least the given rank, or a new
   * array.
   */
  readonly pick: (types?: readonly ElementType[], rankMin?: number) => HloInstruction;
  /** Returns an existing array of the shape, or a new array. */
  readonly like: (shape: ArrayShape) => HloInstruction;
  readonly dims: (rankMax: number, elementsMax?: number) => number[];
  /**
   * Token of the last instruction that made one, such as an infeed. The next infeed or outfeed
   * takes this token as an operand. Its own token then replaces the old one here.
   */
  token: HloInstruction | undefined;
  readonly infeed: Literal[][];
  readonly key: () => Key;
  /**
   * Returns a unique name for a computation: `name` and a number. `print` would rename one of two
   * computations with the same name.
   */
  readonly named: (name: string) => string;
  readonly options: Required<ProgramOptions>;
}

const allTypes: readonly ElementType[] = ['f32', 'bf16', 's32', 'u32', 'pred'];

/**
 * Opcodes that are drawn by default: all except the collectives of {@link collectiveRules}, which do
 * not fit any number of replicas.
 */
const drawnOpcodes = (): readonly Opcode[] =>
  (Object.keys(rules) as Opcode[]).filter((opcode) => !Object.hasOwn(collectiveRules, opcode));

function programOf(list: readonly number[], seed: number, given: ProgramOptions): Program {
  const options = {
    opcodes: given.opcodes ?? drawnOpcodes(),
    types: given.types ?? allTypes,
    specials: given.specials ?? true,
    choicesMax: given.choicesMax ?? 64,
    elementsMax: given.elementsMax ?? 128,
    isPlain: given.isPlain ?? false,
  };
  const parameters: Parameter[] = [];
  const literals: Literal[] = [];
  const pool: HloInstruction[] = [];
  let position = 0;
  let keys = 0;
  let names = 0;

  const builder: Builder = {
    draw: (count) => {
      const choice = list[position++];
      return choice === undefined ? 0 : choice % count;
    },
    more: () => position < list.length,
    fresh: (shape) => {
      const value = randomLiteral(shape, builder.key(), options.specials);
      if (builder.draw(4) === 3) return kept(b.constant(value));
      const name = builder.draw(3) === 0 ? `input ${parameters.length}/"x"` : undefined;
      const parameter = b.parameter(parameters.length, shape, name);
      parameters.push(parameter);
      literals.push(value);
      return kept(parameter);
    },
    pick: (types = options.types, rankMin = 0) => {
      const fits = pool.filter(
        ({ shape }) => isArray(shape) && types.includes(shape.type) && shape.dims.length >= rankMin,
      );
      const choice = builder.draw(fits.length + 1);
      if (choice < fits.length) return at(fits, fits.length - 1 - choice);
      const allowed = types.filter((type) => options.types.some((it) => it === type));
      const type = at(
        allowed.length === 0 ? types : allowed,
        builder.draw(Math.max(1, allowed.length)),
      );
      const dims = builder.dims(3);
      while (dims.length < rankMin) dims.push(1 + builder.draw(3));
      return builder.fresh(arrayShape(type, dims));
    },
    like: (shape) => {
      const fits = pool.filter((it) => sameShape(it.shape, shape));
      const choice = builder.draw(fits.length + 1);
      return choice < fits.length ? at(fits, fits.length - 1 - choice) : builder.fresh(shape);
    },
    dims: (rankMax, elementsMax = options.elementsMax) => {
      const dims: number[] = [];
      for (let rank = builder.draw(rankMax + 1); rank > 0; rank--) {
        const empty = builder.draw(32) === 31;
        const size = empty ? 0 : 1 + builder.draw(6);
        dims.push(Math.min(size, Math.floor(elementsMax / Math.max(1, product(dims)))));
      }
      return dims;
    },
    token: undefined,
    infeed: [],
    key: () => stream(seed, String(keys++)),
    named: (name) => `${name}_${names++}`,
    options,
  };

  while (builder.more()) {
    const opcode = at(options.opcodes, builder.draw(options.opcodes.length));
    for (const made of at([rules[opcode]], 0)(builder, opcode)) kept(made);
  }
  if (pool.length === 0) builder.pick();
  const counts = users(pool);
  const roots = [...counts].filter(([, count]) => count === 0).map(([it]) => it);
  const ends =
    builder.token === undefined || roots.includes(builder.token)
      ? roots
      : [...roots, builder.token];
  const only = ends[0]!;
  const root = ends.length === 1 && isArray(only.shape) ? only : b.tuple(ends);
  const module = b.module('random', parameters, root, aliasesOf(root, parameters));
  return { module, inputs: { parameters: literals, infeed: builder.infeed } };

  function kept(it: HloInstruction): HloInstruction {
    if (!pool.includes(it)) pool.push(it);
    return it;
  }
}

/**
 * Returns one alias: the first output that has the shape of a parameter overwrites this parameter.
 * If no output has the shape of a parameter, returns no alias.
 */
function aliasesOf(root: HloInstruction, parameters: readonly Parameter[]): HloModule['aliases'] {
  const outputs = root.shape.type === 'tuple' ? root.shape.elements : [root.shape];
  for (const [output, shape] of outputs.entries()) {
    const parameter = parameters.findIndex((it) => sameShape(it.shape, shape));
    if (parameter >= 0) return [{ output, parameter }];
  }
  return [];
}

/**
 * Builds an instruction with the given opcode. Returns the arrays that the instruction computes.
 * Later instructions may use these arrays as operands.
 */
type Rule = (builder: Builder, opcode: Opcode) => readonly HloInstruction[];

const unaryRule: Rule = (builder, opcode) => {
  const one = unaryOpcodes.find((it) => it === opcode)!;
  return [b.unary(one, builder.pick(typesOf(one)))];
};
const binaryRule: Rule = (builder, opcode) => {
  const one = binaryOpcodes.find((it) => it === opcode)!;
  const first = builder.pick(typesOf(one));
  return [b.binary(one, first, builder.like(shapeOf(first)))];
};

const rules: Readonly<Record<Opcode, Rule>> = {
  ...(Object.fromEntries(unaryOpcodes.map((it) => [it, unaryRule])) as Record<
    (typeof unaryOpcodes)[number],
    Rule
  >),
  ...(Object.fromEntries(binaryOpcodes.map((it) => [it, binaryRule])) as Record<
    (typeof binaryOpcodes)[number],
    Rule
  >),
  parameter: (builder) => [builder.fresh(arrayShape(anyType(builder), builder.dims(3)))],
  constant: (builder) => {
    const shape = arrayShape(anyType(builder), builder.dims(2));
    return [b.constant(randomLiteral(shape, builder.key(), builder.options.specials))];
  },
  iota: (builder) => {
    const dims = [1 + builder.draw(4), ...builder.dims(2, 16)];
    const types = builder.options.types.filter((type) => type !== 'pred');
    const type = types[builder.draw(types.length)] ?? 'f32';
    return [b.iota(arrayShape(type, dims), builder.draw(dims.length))];
  },
  compare: (builder) => {
    const first = builder.pick();
    const direction = at(['EQ', 'NE', 'LT', 'LE', 'GT', 'GE'] as const, builder.draw(6));
    return [b.compare(direction, first, builder.like(shapeOf(first)))];
  },
  select: (builder) => {
    const value = builder.pick();
    const predicate = builder.like(arrayShape('pred', shapeOf(value).dims));
    return [b.select(predicate, value, builder.like(shapeOf(value)))];
  },
  clamp: (builder) => {
    const value = builder.pick(numbers);
    const { type, dims } = shapeOf(value);
    const bound = (): HloInstruction =>
      builder.like(arrayShape(type, builder.draw(2) === 0 ? [] : dims));
    return [b.clamp(bound(), value, bound())];
  },
  convert: (builder) => [b.convert(builder.pick(), anyType(builder))],
  'bitcast-convert': (builder) => {
    const operand = builder.pick(numbers);
    const width = elementTypes[shapeOf(operand).type].bits;
    const known = ['u8', 'bf16', ...builder.options.types] as const;
    const targets = numbers.filter(
      (type) => known.includes(type) && width % elementTypes[type].bits === 0,
    );
    if (targets.length === 0) return [];
    return [b.bitcastConvert(operand, at(targets, builder.draw(targets.length)))];
  },
  broadcast: (builder) => {
    const operand = builder.pick();
    const dims = [...shapeOf(operand).dims];
    const from = dims.map((_, d) => d);
    for (let more = builder.draw(3); more > 0; more--) {
      const room = Math.floor(builder.options.elementsMax / Math.max(1, product(dims)));
      const place = builder.draw(dims.length + 1);
      dims.splice(place, 0, Math.min(1 + builder.draw(4), Math.max(1, room)));
      from.splice(place, 0, -1);
    }
    const dimensions = shapeOf(operand).dims.map((_, d) => from.indexOf(d));
    return [b.broadcast(operand, dims, dimensions)];
  },
  reshape: (builder) => {
    const operand = builder.pick();
    const count = elementCount(shapeOf(operand));
    const divisors = [1, 2, 3, 4, 5, 6].filter((n) => count > 0 && count % n === 0);
    if (divisors.length === 0) return [b.reshape(operand, [0, 2])];
    const first = at(divisors, builder.draw(divisors.length));
    return [b.reshape(operand, count === 1 ? [] : [first, count / first])];
  },
  transpose: (builder) => {
    const operand = builder.pick();
    return [b.transpose(operand, permutation(builder, shapeOf(operand).dims.length))];
  },
  slice: (builder) => {
    const operand = builder.pick();
    const { dims } = shapeOf(operand);
    const starts = dims.map((size) => builder.draw(size + 1));
    const limits = dims.map((size, d) => starts[d]! + builder.draw(size - starts[d]! + 1));
    return [
      b.slice(
        operand,
        starts,
        limits,
        dims.map(() => 1 + builder.draw(3)),
      ),
    ];
  },
  pad: (builder) => {
    const operand = builder.pick();
    const { type, dims } = shapeOf(operand);
    const interior = dims.map(() => builder.draw(2));
    const low = dims.map(() => builder.draw(4) - 1);
    const high = dims.map((size, d) => {
      const inside = low[d]! + size + Math.max(0, size - 1) * interior[d]!;
      return Math.max(0 - inside, builder.draw(4) - 1);
    });
    const grown = dims.map((n, d) => low[d]! + n + Math.max(0, n - 1) * interior[d]! + high[d]!);
    if (product(grown) > 4 * builder.options.elementsMax) return [];
    return [b.pad(operand, builder.like(arrayShape(type, [])), { low, high, interior })];
  },
  concatenate: (builder) => {
    const first = builder.pick(undefined, 1);
    const { type, dims } = shapeOf(first);
    const dimension = builder.draw(dims.length);
    const more = Array.from({ length: builder.draw(3) }, () =>
      builder.like(
        arrayShape(
          type,
          dims.map((n, d) => (d === dimension ? 1 + builder.draw(3) : n)),
        ),
      ),
    );
    return [b.concatenate([first, ...more], dimension)];
  },
  reverse: (builder) => {
    const operand = builder.pick();
    return [
      b.reverse(
        operand,
        shapeOf(operand)
          .dims.map((_, d) => d)
          .filter(() => builder.draw(2) === 0),
      ),
    ];
  },
  dot: (builder) => {
    const lhs = builder.pick(numbers, 1);
    const { type, dims } = shapeOf(lhs);
    const roles = dims.map(() => builder.draw(3));
    const lhsBatch = dims.map((_, d) => d).filter((d) => roles[d] === 1);
    const lhsContracting = dims.map((_, d) => d).filter((d) => roles[d] === 0);
    const free = Array.from({ length: builder.draw(2) }, () => 1 + builder.draw(4));
    const canonical = [
      ...lhsBatch.map((d) => dims[d]!),
      ...lhsContracting.map((d) => dims[d]!),
      ...free,
    ];
    const order = permutation(builder, canonical.length);
    const rhs = builder.like(
      arrayShape(
        type,
        order.map((d) => canonical[d]!),
      ),
    );
    const shared = lhsBatch.length + lhsContracting.length;
    const places = Array.from({ length: shared }, (_, i) => order.indexOf(i));
    const dimensions = {
      lhsBatch,
      lhsContracting,
      rhsBatch: places.slice(0, lhsBatch.length),
      rhsContracting: places.slice(lhsBatch.length),
    };
    return [b.dot(lhs, rhs, dimensions, precisionOf(builder), sumTypeOf(builder, type))];
  },
  convolution: (builder) => [convolutionOf(builder)],
  reduce: (builder) => {
    const first = builder.pick();
    const { type, dims } = shapeOf(first);
    const dimensions = dims.map((_, d) => d).filter(() => builder.draw(2) === 0);
    if (builder.draw(3) < 2) {
      const body = bodyOf(builder, type);
      return [b.reduce(first, initOf(builder, type, body), dimensions, body)];
    }
    const { inputs, inits, body } = pairOf(builder, first);
    const result = b.reduce(inputs, inits, dimensions, body);
    return [b.getTupleElement(result, 0), b.getTupleElement(result, 1)];
  },
  'reduce-window': (builder) => {
    const operand = builder.pick();
    const { type, dims } = shapeOf(operand);
    const window = dims.map((size) => windowOf(builder, size, true));
    if (windowWork(dims, window) > 4096) return [];
    if (builder.draw(3) < 2) {
      const body = bodyOf(builder, type);
      return [b.reduceWindow(operand, initOf(builder, type, body), window, body)];
    }
    const { inputs, inits, body } = pairOf(builder, operand);
    const result = b.reduceWindow(inputs, inits, window, body);
    return [b.getTupleElement(result, 0), b.getTupleElement(result, 1)];
  },
  'select-and-scatter': (builder) => {
    const operand = builder.pick(numbers);
    const { type, dims } = shapeOf(operand);
    const window = dims.map((size) => windowOf(builder, size, false));
    if (windowWork(dims, window) > 4096) return [];
    const positions = dims.map((size, d) => windowPositions(size, window[d]!));
    const source = builder.like(arrayShape(type, positions));
    const init = initOf(builder, type, b.adder(type));
    const selected = b.greaterOrEqual(type);
    return [b.selectAndScatter(operand, source, init, window, selected, b.adder(type))];
  },
  'rng-bit-generator': (builder) => {
    const state = builder.like(arrayShape('u32', [4]));
    const bits = arrayShape('u32', builder.dims(2));
    const algorithm = at(['rng_philox', 'rng_three_fry', 'rng_default'] as const, builder.draw(3));
    const result = b.rngBitGenerator(state, bits, algorithm);
    return [b.getTupleElement(result, 0), b.getTupleElement(result, 1)];
  },
  'all-reduce': (builder) => {
    const first = builder.pick(numbers);
    if (builder.draw(2) === 0) return [b.allReduce(first)];
    const second = builder.pick([shapeOf(first).type]);
    const result = b.allReduce([first, second]);
    return [b.getTupleElement(result, 0), b.getTupleElement(result, 1)];
  },
  'after-all': (builder) => {
    builder.token = builder.token === undefined ? b.afterAll() : b.afterAll(builder.token);
    return [];
  },
  infeed: (builder) => {
    const shapes = [0, 1].map(() => arrayShape(anyType(builder), builder.dims(2)));
    const single = builder.draw(2) === 0;
    const used = single ? shapes.slice(0, 1) : shapes;
    const data = single ? at(shapes, 0) : ({ type: 'tuple', elements: shapes } as const);
    const result = b.infeed(builder.token ?? b.afterAll(), data);
    builder.token = b.getTupleElement(result, 1);
    builder.infeed.push(
      used.map((shape) => randomLiteral(shape, builder.key(), builder.options.specials)),
    );
    const arrays = b.getTupleElement(result, 0);
    return single ? [arrays] : shapes.map((_, i) => b.getTupleElement(arrays, i));
  },
  outfeed: (builder) => {
    const first = builder.pick();
    const data = builder.draw(2) === 0 ? first : b.tuple([first, builder.pick()]);
    builder.token = b.outfeed(data, builder.token ?? b.afterAll());
    return [];
  },
  tuple: (builder) => {
    const elements = [builder.pick(), builder.pick()];
    return [b.getTupleElement(b.tuple(elements), builder.draw(2))];
  },
  'get-tuple-element': (builder) => [b.getTupleElement(b.tuple([builder.pick()]), 0)],
  fusion: (builder) => [fusionOf(builder)],
  'reduce-precision': (builder) => {
    const format = { exponentBits: 1 + builder.draw(8), mantissaBits: builder.draw(24) };
    return [b.reducePrecision(builder.pick(ieeeFloats), format)];
  },
  ...controlRules,
  ...collectiveRules,
  ...algebraRules,
  ...indexedRules,
};

function fusionOf(builder: Builder): HloInstruction {
  const first = builder.pick(numbers);
  const { type, dims } = shapeOf(first);
  const operands = [first, builder.like(arrayShape(type, dims))];
  const [x, y] = operands.map((it, i) => b.parameter(i, shapeOf(it)));
  assert(x !== undefined && y !== undefined, 'two parameters');
  const sum = b.add(b.multiply(x, y), b.negate(x));
  const name = builder.named('fused');
  if (builder.draw(2) === 0) return b.fusion('loop', operands, b.computation(name, [x, y], sum));
  const all = dims.map((_, d) => d);
  return b.fusion('reduce', operands, b.computation(`sum_${name}`, [x, y], b.reduceSum(sum, all)));
}

function convolutionOf(builder: Builder): HloInstruction {
  const type = shapeOf(builder.pick(numbers)).type;
  const spatial = builder.draw(3);
  const groups = at(['none', 'feature', 'batch'] as const, builder.draw(3));
  const count = groups === 'none' ? 1 : 1 + builder.draw(3);
  const featureGroupCount = groups === 'feature' ? count : 1;
  const batchGroupCount = groups === 'batch' ? count : 1;
  const perGroup = 1 + builder.draw(3);
  const sizes = Array.from({ length: spatial }, () => 1 + builder.draw(5));
  const window = sizes.map((size) => ({
    ...windowOf(builder, size, true),
    reversal: builder.draw(4) === 0,
  }));
  const batch = batchGroupCount * (1 + builder.draw(2));
  const outputs = count * (1 + builder.draw(2));
  const [i, k, o] = [0, 1, 2].map(() => permutation(builder, spatial + 2));
  assert(i !== undefined && k !== undefined && o !== undefined, 'three arrays');
  const placed = (order: readonly number[], canonical: readonly number[]): number[] => {
    const dims: number[] = [];
    order.forEach((place, role) => {
      dims[place] = canonical[role]!;
    });
    return dims;
  };
  const input = placed(i, [batch, perGroup * featureGroupCount, ...sizes]);
  const kernel = placed(k, [perGroup, outputs, ...window.map(({ size }) => size)]);
  return b.convolution(
    builder.like(arrayShape(type, input)),
    builder.like(arrayShape(type, kernel)),
    {
      window,
      dimensions: {
        inputBatch: i[0]!,
        inputFeature: i[1]!,
        inputSpatial: i.slice(2),
        kernelInputFeature: k[0]!,
        kernelOutputFeature: k[1]!,
        kernelSpatial: k.slice(2),
        outputBatch: o[0]!,
        outputFeature: o[1]!,
        outputSpatial: o.slice(2),
      },
      featureGroupCount,
      batchGroupCount,
      precision: precisionOf(builder),
      type: sumTypeOf(builder, type),
    },
  );
}

/** Returns the element type of sums of products: that of the operands, or a wider one. */
function sumTypeOf(builder: Builder, type: ElementType): ElementType {
  const { kind, bits: width } = elementTypes[type];
  const wider = builder.options.types.filter(
    (it) => elementTypes[it].kind === kind && elementTypes[it].bits > width,
  );
  return wider.length === 0 || builder.draw(2) === 0 ? type : at(wider, builder.draw(wider.length));
}

/**
 * Returns a random window over a dimension with `base` elements. The padding may be negative. A
 * negative padding removes elements of the dilated dimension, but never more than there are.
 */
function windowOf(builder: Builder, base: number, dilates: boolean): WindowDimension {
  const window = b.windowDimension({
    size: 1 + builder.draw(3),
    stride: 1 + builder.draw(2),
    padLow: builder.draw(4) - 1,
    padHigh: builder.draw(4) - 1,
    baseDilation: dilates && builder.draw(4) === 0 ? 2 : 1,
    windowDilation: dilates && builder.draw(4) === 0 ? 2 : 1,
  });
  const missing = Math.max(0, 0 - paddedSize(base, window));
  return { ...window, padHigh: window.padHigh + missing };
}

function windowWork(dims: readonly number[], window: readonly WindowDimension[]): number {
  return product(dims.map((size, d) => windowPositions(size, window[d]!) * window[d]!.size));
}

function bodyOf(builder: Builder, type: ElementType): HloComputation {
  if (type === 'pred') return b.maximizer(type);
  switch (builder.draw(builder.options.isPlain ? 2 : 3)) {
    case 0:
      return b.adder(type);
    case 1:
      return b.maximizer(type);
    default: {
      const [x, y] = [b.parameter(0, arrayShape(type, [])), b.parameter(1, arrayShape(type, []))];
      return b.computation(builder.named(`${type}_join`), [x, y], b.subtract(b.multiply(x, x), y));
    }
  }
}

function precisionOf(builder: Builder): Precision {
  return builder.draw(2) === 0 && !builder.options.isPlain ? 'default' : 'highest';
}

/**
 * Returns an initial value for a reduction with the given body. If the option `isPlain` is true,
 * the initial value changes no result: it is 0 for a sum, and the least value for a maximum.
 */
/** Returns two arrays that are folded together: the greatest element of the first, and its partner. */
function pairOf(
  builder: Builder,
  first: HloInstruction,
): {
  readonly inputs: readonly HloInstruction[];
  readonly inits: readonly HloInstruction[];
  readonly body: HloComputation;
} {
  const second = builder.pick();
  const inputs = [first, sameSize(first, second) ? second : first];
  const scalars = inputs.map((it) => arrayShape(shapeOf(it).type, []));
  const inits = scalars.map((shape, i) => {
    if (!builder.options.isPlain) return builder.like(shape);
    return b.scalar(shape.type, i === 0 ? leastOf(shape.type) : 0);
  });
  return { inputs, inits, body: greaterPair(builder, scalars) };
}

function initOf(builder: Builder, type: ElementType, body: HloComputation): HloInstruction {
  if (!builder.options.isPlain) return builder.like(arrayShape(type, []));
  return b.scalar(type, body === b.maximizer(type) ? leastOf(type) : 0);
}

/**
 * Returns the body of an argmax. The body takes two pairs, and selects the one with the greater
 * first element. If the first elements are equal, it selects the left pair.
 */
function greaterPair(builder: Builder, scalars: readonly ArrayShape[]): HloComputation {
  const parameters = [...scalars, ...scalars].map((shape, i) => b.parameter(i, shape));
  const [a0, a1, b0, b1] = parameters;
  assert(a0 !== undefined && a1 !== undefined && b0 !== undefined && b1 !== undefined, 'two pairs');
  const better = b.compare('GE', a0, b0);
  const root = b.tuple([b.select(better, a0, b0), b.select(better, a1, b1)]);
  return b.computation(builder.named('greater_pair'), parameters, root);
}

function permutation(builder: Builder, rank: number): number[] {
  const left = Array.from({ length: rank }, (_, d) => d);
  const order: number[] = [];
  while (left.length > 0) order.push(...left.splice(builder.draw(left.length), 1));
  return order;
}

function anyType(builder: Builder): ElementType {
  return at(builder.options.types, builder.draw(builder.options.types.length));
}

function shapeOf({ shape }: HloInstruction): ArrayShape {
  assert(isArray(shape), 'the pool holds arrays');
  return shape;
}

function sameSize(a: HloInstruction, b: HloInstruction): boolean {
  return shapeOf(a).dims.join() === shapeOf(b).dims.join();
}
