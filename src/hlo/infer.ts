import { assert, at, unreachable } from '../numerics/assert.ts';
import { computedTypes, type ElementType, elementTypes } from '../numerics/element-type.ts';
import { PodError } from '../numerics/error.ts';
import {
  type ArrayShape,
  arrayShape,
  elementCount,
  isArray,
  type Shape,
  sameDims,
  sameShape,
  shapeText,
} from '../numerics/shape.ts';
import type {
  BinaryOpcode,
  Broadcast,
  Concatenate,
  Convert,
  Convolution,
  Dot,
  HloComputation,
  HloInstruction,
  Pad,
  Reduce,
  ReduceWindow,
  SelectAndScatter,
  Slice,
  Transpose,
  UnaryOpcode,
  WindowDimension,
} from './instruction.ts';
import { paddedSize, windowPositions } from './window.ts';

/**
 * An instruction before its shape is inferred. Some opcodes need `shape`, because their operands do
 * not determine it: parameter, iota, convert, broadcast, reshape, rng-bit-generator, infeed.
 */
export type Draft<T extends HloInstruction = HloInstruction> = T extends HloInstruction
  ? Omit<T, 'shape'> & { readonly shape?: Shape }
  : never;

/**
 * Infers the shape of an instruction's result from the shapes of its operands and from its
 * attributes, by the rules of XLA's Operation Semantics. Throws `bad-program` if the instruction
 * breaks a rule; the message names the opcode, the shapes of the operands, and what was expected.
 */
export function inferShape(it: Draft): Shape {
  switch (it.opcode) {
    case 'parameter':
      return parameterShape(it);
    case 'constant':
      expectOperands(it, 0);
      return checkedShape(it, it.value.shape);
    case 'iota':
      return iotaShape(it, it.dimension);
    case 'abs':
    case 'ceil':
    case 'cosine':
    case 'exponential':
    case 'exponential-minus-one':
    case 'floor':
    case 'is-finite':
    case 'log':
    case 'log-plus-one':
    case 'logistic':
    case 'negate':
    case 'not':
    case 'round-nearest-even':
    case 'rsqrt':
    case 'sign':
    case 'sine':
    case 'sqrt':
    case 'tanh':
      return unaryShape(it, it.opcode);
    case 'add':
    case 'subtract':
    case 'multiply':
    case 'divide':
    case 'maximum':
    case 'minimum':
    case 'power':
    case 'remainder':
    case 'and':
    case 'or':
    case 'xor':
    case 'shift-left':
    case 'shift-right-arithmetic':
    case 'shift-right-logical':
      return binaryShape(it, it.opcode);
    case 'compare':
      return compareShape(it);
    case 'select':
      return selectShape(it);
    case 'clamp':
      return clampShape(it);
    case 'convert':
    case 'bitcast-convert':
      return convertShape(it);
    case 'broadcast':
      return broadcastShape(it);
    case 'reshape':
      return reshapeShape(it);
    case 'transpose':
      return transposeShape(it);
    case 'slice':
      return sliceShape(it);
    case 'pad':
      return padShape(it);
    case 'concatenate':
      return concatenateShape(it);
    case 'reverse':
      expectOperands(it, 1);
      expectDistinct(it, it.dimensions, arrayOperand(it, 0).dims.length, 'dimensions');
      return arrayOperand(it, 0);
    case 'dot':
      return dotShape(it);
    case 'convolution':
      return convolutionShape(it);
    case 'reduce':
      return reduceShape(it);
    case 'reduce-window':
      return reduceWindowShape(it);
    case 'select-and-scatter':
      return selectAndScatterShape(it);
    case 'rng-bit-generator':
      return rngShape(it);
    case 'all-reduce':
      return allReduceShape(it, it.body);
    case 'after-all':
      expect(it, shapesOf(it).every(isToken), 'tokens');
      return { type: 'token' };
    case 'infeed':
      return infeedShape(it);
    case 'outfeed':
      return outfeedShape(it);
    case 'tuple':
      return { type: 'tuple', elements: shapesOf(it) };
    case 'get-tuple-element':
      return elementShape(it, it.index);
    case 'fusion':
      expectCall(it, it.body, shapesOf(it));
      return it.body.root.shape;
    default:
      return unreachable(it);
  }
}

/** Throws `bad-program` for an instruction that breaks a rule. `expected` describes the rule. */
export function refuse(it: Draft, expected: string): never {
  const operands = it.operands.map((operand) => shapeText(operand.shape)).join(', ');
  const name = it.name === undefined ? '' : ` at ${it.name}`;
  throw new PodError('bad-program', `${it.opcode}(${operands})${name}: expected ${expected}`);
}

function expect(it: Draft, condition: boolean, expected: string): asserts condition {
  if (!condition) refuse(it, expected);
}

function parameterShape(it: Draft & { readonly index: number }): Shape {
  expectOperands(it, 0);
  expect(it, isIndex(it.index), 'an index of 0 or more');
  return wellFormed(it, givenShape(it));
}

function iotaShape(it: Draft, dimension: number): Shape {
  expectOperands(it, 0);
  const shape = statedArray(it);
  expect(it, shape.type !== 'pred', 'a type of numbers');
  expect(it, isIndexBelow(dimension, shape.dims.length), `a dimension of ${shapeText(shape)}`);
  return shape;
}

/**
 * For each unary opcode: the kind of elements that it accepts. {@link typesOfKind} lists the
 * element types of each kind.
 */
const unaryKinds: Record<UnaryOpcode, 'float' | 'signed' | 'number' | 'bits'> = {
  abs: 'signed',
  ceil: 'float',
  cosine: 'float',
  exponential: 'float',
  'exponential-minus-one': 'float',
  floor: 'float',
  'is-finite': 'float',
  log: 'float',
  'log-plus-one': 'float',
  logistic: 'float',
  negate: 'number',
  not: 'bits',
  'round-nearest-even': 'float',
  rsqrt: 'float',
  sign: 'signed',
  sine: 'float',
  sqrt: 'float',
  tanh: 'float',
};

const binaryKinds: Record<BinaryOpcode, 'float' | 'any' | 'number' | 'bits' | 'integer'> = {
  add: 'number',
  subtract: 'number',
  multiply: 'number',
  divide: 'number',
  maximum: 'any',
  minimum: 'any',
  power: 'float',
  remainder: 'number',
  and: 'bits',
  or: 'bits',
  xor: 'bits',
  'shift-left': 'integer',
  'shift-right-arithmetic': 'integer',
  'shift-right-logical': 'integer',
};

const typesOfKind = {
  any: computedTypes,
  bits: ['pred', 's32', 'u32'],
  float: ['bf16', 'f32'],
  integer: ['s32', 'u32'],
  number: ['s32', 'u32', 'bf16', 'f32'],
  signed: ['s32', 'bf16', 'f32'],
} as const satisfies Record<string, readonly ElementType[]>;

/** Returns the element types that an element-wise opcode accepts. */
export function typesOf(opcode: UnaryOpcode | BinaryOpcode): readonly ElementType[] {
  return typesOfKind[
    opcode in unaryKinds ? unaryKinds[opcode as UnaryOpcode] : binaryKinds[opcode as BinaryOpcode]
  ];
}

function expectKind(it: Draft, kind: keyof typeof typesOfKind, { type }: ArrayShape): void {
  const types: readonly ElementType[] = typesOfKind[kind];
  expect(it, types.includes(type), `elements of type ${types.join(', ')}`);
}

function unaryShape(it: Draft, opcode: UnaryOpcode): Shape {
  expectOperands(it, 1);
  const operand = arrayOperand(it, 0);
  expectKind(it, unaryKinds[opcode], operand);
  return opcode === 'is-finite' ? arrayShape('pred', operand.dims) : operand;
}

function binaryShape(it: Draft, opcode: BinaryOpcode): Shape {
  const [a] = equalOperands(it);
  expectKind(it, binaryKinds[opcode], a);
  return a;
}

function compareShape(it: Draft): Shape {
  const [a] = equalOperands(it);
  return arrayShape('pred', a.dims);
}

function equalOperands(it: Draft): readonly [ArrayShape, ArrayShape] {
  expectOperands(it, 2);
  const a = arrayOperand(it, 0);
  const b = arrayOperand(it, 1);
  expect(it, sameShape(a, b), 'operands of one shape');
  return [a, b];
}

function selectShape(it: Draft): Shape {
  expectOperands(it, 3);
  const predicate = arrayOperand(it, 0);
  const onTrue = arrayOperand(it, 1);
  expect(it, predicate.type === 'pred', 'a pred first');
  expect(it, sameDims(predicate.dims, onTrue.dims), 'a predicate of the size of the values');
  expect(it, sameShape(onTrue, arrayOperand(it, 2)), 'values of one shape');
  return onTrue;
}

function clampShape(it: Draft): Shape {
  expectOperands(it, 3);
  const value = arrayOperand(it, 1);
  expectKind(it, 'number', value);
  for (const bound of [arrayOperand(it, 0), arrayOperand(it, 2)]) {
    const fits = bound.dims.length === 0 || sameDims(bound.dims, value.dims);
    expect(
      it,
      bound.type === value.type && fits,
      "bounds that are scalars or of the value's shape",
    );
  }
  return value;
}

function convertShape(it: Draft<Convert>): Shape {
  expectOperands(it, 1);
  const operand = arrayOperand(it, 0);
  const shape = statedArray(it);
  expect(it, sameDims(operand.dims, shape.dims), `the size of ${shapeText(shape)}`);
  if (it.opcode === 'bitcast-convert') {
    const same = elementTypes[operand.type].bits === elementTypes[shape.type].bits;
    expect(it, same, `elements as wide as ${shape.type}`);
  }
  return shape;
}

function broadcastShape(it: Draft<Broadcast>): Shape {
  expectOperands(it, 1);
  const operand = arrayOperand(it, 0);
  const shape = statedArray(it);
  const rank = shape.dims.length;
  expect(it, operand.type === shape.type, `elements of type ${shape.type}`);
  expect(
    it,
    it.dimensions.length === operand.dims.length,
    'a target dimension for each dimension of the operand',
  );
  expectDistinct(it, it.dimensions, rank, 'target dimensions');
  const kept = it.dimensions.every((d, i) => shape.dims[d] === operand.dims[i]);
  expect(it, kept, `sizes kept in ${shapeText(shape)} at dimensions {${it.dimensions.join(',')}}`);
  return shape;
}

function reshapeShape(it: Draft): Shape {
  expectOperands(it, 1);
  const operand = arrayOperand(it, 0);
  const shape = statedArray(it);
  const same = operand.type === shape.type && elementCount(operand) === elementCount(shape);
  expect(it, same, `the type and number of elements of ${shapeText(shape)}`);
  return shape;
}

function transposeShape(it: Draft<Transpose>): Shape {
  expectOperands(it, 1);
  const operand = arrayOperand(it, 0);
  const { permutation } = it;
  const rank = operand.dims.length;
  expect(it, permutation.length === rank, `a permutation of ${rank} dimensions`);
  expectDistinct(it, permutation, rank, 'a permutation');
  return arrayShape(
    operand.type,
    permutation.map((d) => at(operand.dims, d)),
  );
}

function sliceShape(it: Draft<Slice>): Shape {
  expectOperands(it, 1);
  const operand = arrayOperand(it, 0);
  const { starts, limits, strides } = it;
  expectPerDimension(it, operand, [starts, limits, strides], 'starts, limits and strides');
  const dims = operand.dims.map((size, d) => {
    const start = at(starts, d);
    const limit = at(limits, d);
    const stride = at(strides, d);
    const inside = isIndex(start) && isIndex(limit) && start <= limit && limit <= size;
    expect(it, inside, `0 <= start ${start} <= limit ${limit} <= ${size} in dimension ${d}`);
    expect(it, isIndex(stride) && stride > 0, `a stride of 1 or more, not ${stride}`);
    return Math.ceil((limit - start) / stride);
  });
  return arrayShape(operand.type, dims);
}

function padShape(it: Draft<Pad>): Shape {
  expectOperands(it, 2);
  const operand = arrayOperand(it, 0);
  const { low, high, interior } = it;
  expect(it, sameShape(arrayOperand(it, 1), arrayShape(operand.type, [])), 'a scalar to pad with');
  expectPerDimension(it, operand, [low, high, interior], 'low, high and interior padding');
  const dims = operand.dims.map((size, d) => {
    const between = at(interior, d);
    expect(it, isIndex(between), `interior padding of 0 or more, not ${between}`);
    const whole = Number.isInteger(at(low, d)) && Number.isInteger(at(high, d));
    const padded = at(low, d) + size + Math.max(0, size - 1) * between + at(high, d);
    expect(it, whole && padded >= 0, `at least 0 elements in dimension ${d}, not ${padded}`);
    return padded;
  });
  return arrayShape(operand.type, dims);
}

function concatenateShape(it: Draft<Concatenate>): Shape {
  expect(it, it.operands.length > 0, 'at least one operand');
  const first = arrayOperand(it, 0);
  const { dimension } = it;
  expect(it, isIndexBelow(dimension, first.dims.length), `dimension ${dimension} to exist`);
  let size = 0;
  for (let i = 0; i < it.operands.length; i++) {
    const operand = arrayOperand(it, i);
    const resized = operand.dims.map((n, d) => (d === dimension ? at(first.dims, d) : n));
    const fits = operand.type === first.type && sameDims(resized, first.dims);
    expect(it, fits, `operands that differ in dimension ${dimension} alone`);
    size += at(operand.dims, dimension);
  }
  return arrayShape(
    first.type,
    first.dims.map((n, d) => (d === dimension ? size : n)),
  );
}

function dotShape(it: Draft<Dot>): Shape {
  expectOperands(it, 2);
  const lhs = arrayOperand(it, 0);
  const rhs = arrayOperand(it, 1);
  expectMultiplicands(it, lhs, rhs);
  const lhsUsed = [...it.lhsBatch, ...it.lhsContracting];
  const rhsUsed = [...it.rhsBatch, ...it.rhsContracting];
  expectDistinct(it, lhsUsed, lhs.dims.length, 'dimensions of the left operand');
  expectDistinct(it, rhsUsed, rhs.dims.length, 'dimensions of the right operand');
  const paired = it.lhsBatch.length === it.rhsBatch.length && lhsUsed.length === rhsUsed.length;
  expect(it, paired, 'as many batch and contracting dimensions on both sides');
  const fits = lhsUsed.every((d, i) => lhs.dims[d] === rhs.dims[at(rhsUsed, i)]);
  expect(it, fits, 'batch and contracting dimensions of equal size on both sides');
  return arrayShape(lhs.type, [
    ...it.lhsBatch.map((d) => at(lhs.dims, d)),
    ...lhs.dims.filter((_, d) => !lhsUsed.includes(d)),
    ...rhs.dims.filter((_, d) => !rhsUsed.includes(d)),
  ]);
}

function expectMultiplicands(it: Draft, lhs: ArrayShape, rhs: ArrayShape): void {
  expectKind(it, 'float', lhs);
  expect(it, lhs.type === rhs.type, 'operands of one element type');
}

function convolutionShape(it: Draft<Convolution>): Shape {
  expectOperands(it, 2);
  const input = arrayOperand(it, 0);
  const kernel = arrayOperand(it, 1);
  expectMultiplicands(it, input, kernel);
  const { dimensions: of, window, featureGroupCount, batchGroupCount } = it;
  expectWindow(it, window);
  const rank = window.length + 2;
  expectRoles(it, input, rank, [of.inputBatch, of.inputFeature, ...of.inputSpatial]);
  const kernelRoles = [of.kernelInputFeature, of.kernelOutputFeature, ...of.kernelSpatial];
  expectRoles(it, kernel, rank, kernelRoles);
  const outputRoles = [of.outputBatch, of.outputFeature, ...of.outputSpatial];
  expect(it, outputRoles.length === rank, `${rank} output dimensions`);
  expectDistinct(it, outputRoles, rank, 'output dimensions');

  const sizes = of.kernelSpatial.map((d) => at(kernel.dims, d));
  const kernelFits = sizes.every((size, i) => size === at(window, i).size);
  expect(it, kernelFits, `a window of the kernel's size ${sizes.join('x')}`);
  const features = at(input.dims, of.inputFeature);
  const batch = at(input.dims, of.inputBatch);
  const outputs = at(kernel.dims, of.kernelOutputFeature);
  expectGroups(it, featureGroupCount, outputs);
  expectGroups(it, batchGroupCount, outputs);
  expect(
    it,
    featureGroupCount === 1 || batchGroupCount === 1,
    'feature groups or batch groups, not both',
  );
  const perGroup = at(kernel.dims, of.kernelInputFeature);
  expect(
    it,
    perGroup * featureGroupCount === features,
    `kernel input features ${perGroup} x ${featureGroupCount} groups = input features ${features}`,
  );
  expect(
    it,
    batch % batchGroupCount === 0,
    `a batch divisible by the batch group count ${batchGroupCount}`,
  );

  const dims = new Array<number>(rank).fill(0);
  dims[of.outputBatch] = batch / batchGroupCount;
  dims[of.outputFeature] = outputs;
  of.outputSpatial.forEach((d, i) => {
    dims[d] = positionsOf(it, at(input.dims, at(of.inputSpatial, i)), at(window, i));
  });
  return arrayShape(input.type, dims);
}

function expectRoles(it: Draft, array: ArrayShape, rank: number, roles: readonly number[]): void {
  const fits = array.dims.length === rank && roles.length === rank;
  expect(it, fits, `arrays of ${rank} dimensions, each with a role`);
  expectDistinct(it, roles, rank, 'dimensions');
}

function expectGroups(it: Draft, groups: number, outputs: number): void {
  const fits = isIndex(groups) && groups >= 1 && outputs % groups === 0;
  expect(it, fits, `output features ${outputs} divisible by the group count ${groups}`);
}

function expectWindow(it: Draft, window: readonly WindowDimension[]): void {
  for (const { size, stride, padLow, padHigh, baseDilation, windowDilation } of window) {
    const positive = [size, stride, baseDilation, windowDilation].every((n) => isIndex(n) && n > 0);
    expect(it, positive, 'window sizes, strides and dilations of 1 or more');
    expect(it, Number.isInteger(padLow) && Number.isInteger(padHigh), 'integers as padding');
  }
}

function positionsOf(it: Draft, size: number, window: WindowDimension): number {
  expect(it, paddedSize(size, window) >= 0, 'padding that leaves at least 0 elements');
  return windowPositions(size, window);
}

function reduceShape(it: Draft<Reduce>): Shape {
  const n = it.operands.length / 2;
  expect(it, Number.isInteger(n) && n > 0, 'as many initial values as inputs, at least one');
  const inputs = it.operands.slice(0, n).map((_, i) => arrayOperand(it, i));
  const first = at(inputs, 0);
  const scalars = inputs.map(({ type }) => arrayShape(type, []));
  for (let i = 0; i < n; i++) {
    expect(it, sameDims(at(inputs, i).dims, first.dims), 'inputs of one size');
    const fits = sameShape(arrayOperand(it, n + i), at(scalars, i));
    expect(it, fits, "scalar initial values of the inputs' types");
  }
  expectDistinct(it, it.dimensions, first.dims.length, 'dimensions');
  expectSignature(it, it.body, [...scalars, ...scalars], oneOrTuple(scalars));
  const dims = first.dims.filter((_, d) => !it.dimensions.includes(d));
  return oneOrTuple(inputs.map(({ type }) => arrayShape(type, dims)));
}

function reduceWindowShape(it: Draft<ReduceWindow>): Shape {
  expectOperands(it, 2);
  const input = arrayOperand(it, 0);
  const scalar = arrayShape(input.type, []);
  expect(it, sameShape(arrayOperand(it, 1), scalar), 'a scalar initial value');
  expectSignature(it, it.body, [scalar, scalar], scalar);
  return windowedShape(it, input, it.window);
}

function windowedShape(
  it: Draft,
  input: ArrayShape,
  window: readonly WindowDimension[],
): ArrayShape {
  expect(it, window.length === input.dims.length, `a window of ${input.dims.length} dimensions`);
  expectWindow(it, window);
  expect(it, !window.some(({ reversal }) => reversal), 'a window that is not reversed');
  const dims = input.dims.map((size, d) => positionsOf(it, size, at(window, d)));
  return arrayShape(input.type, dims);
}

function selectAndScatterShape(it: Draft<SelectAndScatter>): Shape {
  expectOperands(it, 3);
  const operand = arrayOperand(it, 0);
  const scalar = arrayShape(operand.type, []);
  const windowed = windowedShape(it, operand, it.window);
  const solid = it.window.every((w) => w.baseDilation === 1 && w.windowDilation === 1);
  expect(it, solid, 'a window without dilation');
  expect(it, sameShape(arrayOperand(it, 1), windowed), `a source of shape ${shapeText(windowed)}`);
  expect(it, sameShape(arrayOperand(it, 2), scalar), 'a scalar initial value');
  expectSignature(it, it.select, [scalar, scalar], arrayShape('pred', []));
  expectSignature(it, it.scatter, [scalar, scalar], scalar);
  return operand;
}

function rngShape(it: Draft): Shape {
  expectOperands(it, 1);
  const state = arrayShape('u32', [4]);
  expect(it, sameShape(arrayOperand(it, 0), state), 'a state u32[4]');
  const shape = givenShape(it);
  const [next, bits] = shape.type === 'tuple' ? shape.elements : [];
  const fits =
    shape.type === 'tuple' &&
    shape.elements.length === 2 &&
    next !== undefined &&
    sameShape(next, state) &&
    bits?.type === 'u32';
  expect(it, fits, `a result (u32[4], u32[...]), not ${shapeText(shape)}`);
  return wellFormed(it, shape);
}

function allReduceShape(it: Draft, body: HloComputation): Shape {
  expect(it, it.operands.length > 0, 'at least one operand');
  const shapes = it.operands.map((_, i) => arrayOperand(it, i));
  for (const { type } of shapes) {
    const scalar = arrayShape(type, []);
    expectSignature(it, body, [scalar, scalar], scalar);
  }
  return oneOrTuple(shapes);
}

function infeedShape(it: Draft): Shape {
  expectOperands(it, 1);
  expect(it, isToken(at(shapesOf(it), 0)), 'a token');
  const shape = givenShape(it);
  const [data, token] = shape.type === 'tuple' ? shape.elements : [];
  const fits =
    shape.type === 'tuple' &&
    shape.elements.length === 2 &&
    data !== undefined &&
    isData(data) &&
    token?.type === 'token';
  expect(it, fits, `a result (data, token[]), not ${shapeText(shape)}`);
  return wellFormed(it, shape);
}

function outfeedShape(it: Draft): Shape {
  expectOperands(it, 2);
  const [data, token] = shapesOf(it);
  const fits = data !== undefined && isData(data) && token?.type === 'token';
  expect(it, fits, 'an array or a tuple of arrays, and a token');
  return { type: 'token' };
}

function elementShape(it: Draft, index: number): Shape {
  expectOperands(it, 1);
  const tuple = at(shapesOf(it), 0);
  expect(
    it,
    tuple.type === 'tuple' && isIndexBelow(index, tuple.elements.length),
    `element ${index}`,
  );
  return at(tuple.elements, index);
}

function expectCall(it: Draft, body: HloComputation, operands: readonly Shape[]): void {
  const parameters = body.parameters.map(({ shape }) => shape);
  const fits = sameShape(tupleShape(parameters), tupleShape(operands));
  expect(it, fits, `the operands of ${signatureText(parameters, body.root.shape)}`);
}

function expectSignature(
  it: Draft,
  body: HloComputation,
  parameters: readonly Shape[],
  result: Shape,
): void {
  const found = body.parameters.map(({ shape }) => shape);
  const fits =
    sameShape(tupleShape(found), tupleShape(parameters)) && sameShape(body.root.shape, result);
  const text = signatureText(parameters, result);
  expect(it, fits, `${body.name} to be ${text}, not ${signatureText(found, body.root.shape)}`);
}

function signatureText(parameters: readonly Shape[], result: Shape): string {
  return `(${parameters.map(shapeText).join(', ')}) -> ${shapeText(result)}`;
}

function tupleShape(elements: readonly Shape[]): Shape {
  return { type: 'tuple', elements };
}

function oneOrTuple(shapes: readonly ArrayShape[]): Shape {
  return shapes.length === 1 ? at(shapes, 0) : tupleShape(shapes);
}

function isToken(shape: Shape): boolean {
  return shape.type === 'token';
}

function isData(shape: Shape): boolean {
  return shape.type === 'tuple' ? shape.elements.every(isArray) : isArray(shape);
}

function shapesOf(it: Draft): Shape[] {
  return it.operands.map(({ shape }) => shape);
}

function expectOperands(it: Draft, count: number): void {
  expect(it, it.operands.length === count, `${count} operands`);
}

function arrayOperand(it: Draft, i: number): ArrayShape {
  const { shape } = at(it.operands, i);
  expect(it, isArray(shape), `an array as operand ${i}`);
  return shape;
}

function givenShape(it: Draft): Shape {
  assert(it.shape !== undefined, `${it.opcode} states its shape`);
  return it.shape;
}

function statedArray(it: Draft): ArrayShape {
  const shape = givenShape(it);
  expect(it, isArray(shape), `an array, not ${shapeText(shape)}`);
  return checkedShape(it, shape);
}

function wellFormed(it: Draft, shape: Shape): Shape {
  if (shape.type === 'tuple') for (const element of shape.elements) wellFormed(it, element);
  if (isArray(shape)) checkedShape(it, shape);
  return shape;
}

/**
 * Checks `shape` and returns it. Throws `bad-program` if a size is invalid, or if the element type
 * is one with which programs cannot compute.
 */
function checkedShape(it: Draft, shape: ArrayShape): ArrayShape {
  const whole = shape.dims.every(isIndex) && Number.isSafeInteger(elementCount(shape));
  expect(it, whole, `sizes of 0 or more, not ${shapeText(shape)}`);
  const known = computedTypes.includes(shape.type);
  expect(it, known, `one of the types ${computedTypes.join(', ')}, not ${shape.type}`);
  return shape;
}

function expectDistinct(
  it: Draft,
  dimensions: readonly number[],
  rank: number,
  what: string,
): void {
  const inside = dimensions.every((d) => isIndexBelow(d, rank));
  const distinct = new Set(dimensions).size === dimensions.length;
  expect(
    it,
    inside && distinct,
    `${what} distinct and below ${rank}, not {${dimensions.join(',')}}`,
  );
}

function expectPerDimension(
  it: Draft,
  operand: ArrayShape,
  lists: readonly (readonly number[])[],
  what: string,
): void {
  const rank = operand.dims.length;
  expect(
    it,
    lists.every(({ length }) => length === rank),
    `${what} for ${rank} dimensions`,
  );
}

function isIndex(n: number): boolean {
  return Number.isSafeInteger(n) && n >= 0;
}

function isIndexBelow(n: number, limit: number): boolean {
  return isIndex(n) && n < limit;
}
