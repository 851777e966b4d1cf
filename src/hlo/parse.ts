import { at } from '../numerics/assert.ts';
import {
  computedTypes,
  type ElementType,
  elementTypes,
  isElementType,
} from '../numerics/element-type.ts';
import { PodError } from '../numerics/error.ts';
import { type Literal, literal } from '../numerics/literal.ts';
import {
  type ArrayShape,
  arrayShape,
  elementCount,
  isArray,
  type Shape,
  sameShape,
  shapeText,
} from '../numerics/shape.ts';
import { make } from './build.ts';
import type { Draft } from './infer.ts';
import {
  type Alias,
  binaryOpcodes,
  type Compare,
  type ConvolutionDimensions,
  type Fusion,
  type HloComputation,
  type HloInstruction,
  type HloModule,
  type Opcode,
  type Parameter,
  type Precision,
  unaryOpcodes,
  type WindowDimension,
} from './instruction.ts';
import { Scanner } from './scanner.ts';
import { postOrder } from './traverse.ts';
import { windowDimension } from './window.ts';

/**
 * Parses a module in XLA's HLO text form. Infers all shapes and compares them with the shapes in
 * the text. Throws `bad-program` for an invalid text: "line L, column C: expected …, found …".
 */
export function parse(text: string): HloModule {
  const scanner = new Scanner(text);
  scanner.expect('HloModule');
  const name = scanner.match(identifierPattern, 'the name of the module');
  const aliases = moduleAttributes(scanner);
  const computations = new Map<string, HloComputation>();
  let entry: HloComputation | undefined;
  while (!scanner.atEnd) {
    const start = scanner.position;
    const isEntry = scanner.tryMatch(/ENTRY\b/y) !== undefined;
    const computation = parseComputation(scanner, computations);
    if (computations.has(computation.name)) scanner.fail('a name that is not used yet', start);
    computations.set(computation.name, computation);
    if (isEntry && entry !== undefined) scanner.fail('one ENTRY computation', start);
    if (isEntry) entry = computation;
  }
  if (entry === undefined) return scanner.fail('an ENTRY computation');
  return { name, entry, aliases };
}

const identifierPattern = /[A-Za-z_][\w.-]*/y;
const namePattern = /%?[A-Za-z_][\w.-]*/y;

/** Parses the attributes of the module. Returns the aliases and skips all other attributes. */
function moduleAttributes(scanner: Scanner): readonly Alias[] {
  let aliases: readonly Alias[] = [];
  while (scanner.take(',')) {
    const key = scanner.match(identifierPattern, 'an attribute');
    scanner.expect('=');
    if (key === 'input_output_alias') {
      aliases = scanner.list('{', '}', () => parseAlias(scanner));
    } else {
      skipValue(scanner);
    }
  }
  return aliases;
}

/**
 * Parses an alias. `{0}: 1` means that output 0 overwrites parameter 1. `{0}: (1, {}, may-alias)`
 * means the same. `{}` in place of `{0}` means that the whole result overwrites the parameter.
 */
function parseAlias(scanner: Scanner): Alias {
  const path = integers(scanner);
  if (path.length > 1) scanner.fail('an element of the root tuple, not of a nested tuple');
  scanner.expect(':');
  const whole = !scanner.take('(');
  const parameter = integer(scanner);
  if (!whole) {
    scanner.expect(',');
    if (integers(scanner).length > 0) scanner.fail('a parameter that is an array');
    if (scanner.take(',')) scanner.match(/(may|must)-alias/y, 'may-alias or must-alias');
    scanner.expect(')');
  }
  return { output: path[0] ?? 0, parameter };
}

/** Parses a computation: `%name (p: f32[2]) -> f32[] { … }`. The signature is optional. */
function parseComputation(
  scanner: Scanner,
  computations: ReadonlyMap<string, HloComputation>,
): HloComputation {
  const name = parseName(scanner, 'a computation');
  const signatureAt = scanner.position;
  const signature = scanner.tryMatch(/(?=\()/y) === undefined ? undefined : parseSignature(scanner);
  scanner.expect('{');
  const instructions = new Map<string, HloInstruction>();
  let root: HloInstruction | undefined;
  while (!scanner.take('}')) {
    const start = scanner.position;
    const isRoot = scanner.tryMatch(/ROOT\b/y) !== undefined;
    const [label, it] = parseInstruction(scanner, { instructions, computations });
    if (instructions.has(label)) scanner.fail('a name that is not used yet', start);
    instructions.set(label, it);
    if (isRoot && root !== undefined) scanner.fail('one ROOT', start);
    if (isRoot) root = it;
  }
  const all = [...instructions.values()];
  const last = root ?? all[all.length - 1];
  if (last === undefined) return scanner.fail('instructions', signatureAt);
  const parameters = all.filter((it) => it.opcode === 'parameter');
  parameters.sort((a, b) => a.index - b.index);
  const computation = { name, parameters, root: last };
  if (signature !== undefined) checkSignature(scanner, signatureAt, signature, computation);
  checkReached(scanner, signatureAt, all, computation);
  return computation;
}

interface Signature {
  readonly parameters: readonly Shape[];
  readonly result: Shape;
}

function parseSignature(scanner: Scanner): Signature {
  const parameters = scanner.list('(', ')', () => {
    parseName(scanner, 'a parameter');
    scanner.expect(':');
    return parseShape(scanner);
  });
  scanner.expect('->');
  return { parameters, result: parseShape(scanner) };
}

function checkSignature(
  scanner: Scanner,
  position: number,
  { parameters, result }: Signature,
  computation: HloComputation,
): void {
  const found = computation.parameters.map((it: Parameter) => it.shape);
  const fits =
    sameShape({ type: 'tuple', elements: found }, { type: 'tuple', elements: parameters }) &&
    sameShape(computation.root.shape, result);
  if (fits) return;
  const text = `(${found.map(shapeText).join(', ')}) -> ${shapeText(computation.root.shape)}`;
  scanner.fail(`the signature ${text} of ${computation.name}`, position);
}

/**
 * Checks that the root of a computation depends on every infeed, outfeed and all-reduce of the
 * computation; otherwise throws `bad-program`. An instruction on which the root does not depend is
 * never run, so its effect, such as receiving data, would be lost.
 */
function checkReached(
  scanner: Scanner,
  position: number,
  all: readonly HloInstruction[],
  { name, root }: HloComputation,
): void {
  const reached = new Set(postOrder(root));
  for (const it of all) {
    const effect = it.opcode === 'infeed' || it.opcode === 'outfeed' || it.opcode === 'all-reduce';
    if (effect && !reached.has(it)) {
      scanner.fail(`each ${it.opcode} of ${name} to lead to its root`, position);
    }
  }
}

interface Scope {
  readonly instructions: ReadonlyMap<string, HloInstruction>;
  readonly computations: ReadonlyMap<string, HloComputation>;
}

/** Parses an instruction: `%name = shape opcode(operands), attributes`. */
function parseInstruction(scanner: Scanner, scope: Scope): [string, HloInstruction] {
  const label = parseName(scanner, 'an instruction');
  scanner.expect('=');
  const shapeAt = scanner.position;
  const shape = parseShape(scanner);
  const opcodeAt = scanner.position;
  const opcode = scanner.match(/[a-z]+(-[a-z]+)*/y, 'an opcode');
  if (!isOpcode(opcode)) return scanner.fail('an opcode', opcodeAt);
  const content = parseContent(scanner, opcode, shape, scope);
  const attributes = parseAttributes(scanner, scope);
  const draft = draftOf({ scanner, opcodeAt, opcode, shape, ...content, attributes });
  const it = located(scanner, opcodeAt, () => make<HloInstruction>(draft));
  if (!sameShape(it.shape, shape)) {
    const texts = `expected ${shapeText(it.shape)}, found ${shapeText(shape)}`;
    throw scanner.error(texts, shapeAt);
  }
  return [label, it];
}

/** Runs `build`. If it throws a PodError, rethrows it with the line and column of `position`. */
function located<T>(scanner: Scanner, position: number, build: () => T): T {
  try {
    return build();
  } catch (error) {
    if (!(error instanceof PodError)) throw error;
    throw scanner.error(error.message, position, error);
  }
}

const otherOpcodes = [
  'parameter',
  'constant',
  'iota',
  'compare',
  'select',
  'clamp',
  'convert',
  'bitcast-convert',
  'broadcast',
  'reshape',
  'transpose',
  'slice',
  'pad',
  'concatenate',
  'reverse',
  'dot',
  'convolution',
  'reduce',
  'reduce-window',
  'select-and-scatter',
  'rng-bit-generator',
  'all-reduce',
  'after-all',
  'infeed',
  'outfeed',
  'tuple',
  'get-tuple-element',
  'fusion',
] as const satisfies readonly Opcode[];
const opcodes: ReadonlySet<string> = new Set([...unaryOpcodes, ...binaryOpcodes, ...otherOpcodes]);

function isOpcode(text: string): text is Opcode {
  return opcodes.has(text);
}

/** Parsed text between the parentheses of an instruction. */
interface Content {
  readonly operands: readonly HloInstruction[];
  readonly index?: number;
  readonly value?: Literal;
}

function parseContent(scanner: Scanner, opcode: Opcode, shape: Shape, scope: Scope): Content {
  if (opcode === 'parameter' || opcode === 'constant') {
    scanner.expect('(');
    const content =
      opcode === 'parameter'
        ? { operands: [], index: integer(scanner) }
        : { operands: [], value: parseLiteral(scanner, shape) };
    scanner.expect(')');
    return content;
  }
  const operands = scanner.list('(', ')', () => {
    if (scanner.tryMatch(/(?=\(|[a-z][a-z0-9]*\[)/y) !== undefined) parseShape(scanner);
    const position = scanner.position;
    const name = parseName(scanner, 'an operand');
    return scope.instructions.get(name) ?? scanner.fail('an instruction above', position);
  });
  return { operands };
}

function parseLiteral(scanner: Scanner, shape: Shape): Literal {
  if (!isArray(shape)) return scanner.fail('an array as a constant');
  const { type, dims } = shape;
  if (!computedTypes.includes(type))
    return scanner.fail(`a constant of ${computedTypes.join(', ')}`);
  const values = new Float64Array(elementCount(shape));
  fill(0, 0);
  return literal(type, dims, values);

  function fill(dimension: number, index: number): void {
    if (dimension === dims.length) {
      values[index] = parseElement(scanner, type);
      return;
    }
    const size = at(dims, dimension);
    scanner.expect('{');
    for (let i = 0; i < size; i++) {
      if (i > 0) scanner.expect(',');
      fill(dimension + 1, index * size + i);
    }
    scanner.expect('}');
  }
}

function parseElement(scanner: Scanner, type: ElementType): number {
  const position = scanner.position;
  const word = scanner.match(
    /true|false|-?inf|-?nan|-?\d+(\.\d*)?(e[+-]?\d+)?/y,
    `a value of type ${type}`,
  );
  const value = wordValues.get(word) ?? Number(word);
  const { kind, bits } = elementTypes[type];
  if (kind === 'float') return value;
  const least = kind === 'signed' ? -(2 ** (bits - 1)) : 0;
  const most = kind === 'pred' ? 1 : kind === 'signed' ? 2 ** (bits - 1) - 1 : 2 ** bits - 1;
  const fits = Number.isInteger(value) && value >= least && value <= most;
  return fits ? value : scanner.fail(`a value of type ${type}`, position);
}

const wordValues: ReadonlyMap<string, number> = new Map([
  ['true', 1],
  ['false', 0],
  ['inf', Number.POSITIVE_INFINITY],
  ['-inf', Number.NEGATIVE_INFINITY],
  ['nan', Number.NaN],
  ['-nan', Number.NaN],
]);

/** Parsed attributes of an instruction. The interface has the attributes of all opcodes. */
interface Attributes {
  dimensions?: readonly number[];
  iotaDimension?: number;
  index?: number;
  direction?: Compare['direction'];
  slice?: readonly (readonly [number, number, number])[];
  padding?: readonly (readonly [number, number, number])[];
  lhsBatch?: readonly number[];
  rhsBatch?: readonly number[];
  lhsContracting?: readonly number[];
  rhsContracting?: readonly number[];
  precision?: Precision;
  window?: readonly WindowDimension[];
  labels?: ConvolutionDimensions;
  featureGroups?: number;
  batchGroups?: number;
  body?: HloComputation;
  select?: HloComputation;
  scatter?: HloComputation;
  kind?: Fusion['kind'];
  algorithm?: 'rng_philox';
  name?: string;
}

function parseAttributes(scanner: Scanner, scope: Scope): Attributes {
  const attributes: Attributes = {};
  while (scanner.take(',')) {
    const position = scanner.position;
    const key = scanner.match(identifierPattern, 'an attribute');
    scanner.expect('=');
    parseAttribute(scanner, scope, key, position, attributes);
  }
  return attributes;
}

function parseAttribute(
  scanner: Scanner,
  { computations }: Scope,
  key: string,
  position: number,
  into: Attributes,
): void {
  switch (key) {
    case 'dimensions':
      into.dimensions = integers(scanner);
      return;
    case 'iota_dimension':
      into.iotaDimension = integer(scanner);
      return;
    case 'index':
      into.index = integer(scanner);
      return;
    case 'direction':
      into.direction = choice(scanner, directions);
      return;
    case 'slice':
      into.slice = scanner.list('{', '}', () => parseRange(scanner));
      return;
    case 'padding':
      into.padding = parsePadding(scanner);
      return;
    case 'lhs_batch_dims':
      into.lhsBatch = integers(scanner);
      return;
    case 'rhs_batch_dims':
      into.rhsBatch = integers(scanner);
      return;
    case 'lhs_contracting_dims':
      into.lhsContracting = integers(scanner);
      return;
    case 'rhs_contracting_dims':
      into.rhsContracting = integers(scanner);
      return;
    case 'operand_precision':
      into.precision = parsePrecision(scanner);
      return;
    case 'window':
      into.window = parseWindow(scanner);
      return;
    case 'dim_labels':
      into.labels = parseLabels(scanner);
      return;
    case 'feature_group_count':
      into.featureGroups = integer(scanner);
      return;
    case 'batch_group_count':
      into.batchGroups = integer(scanner);
      return;
    case 'to_apply':
    case 'calls':
      into.body = parseCall(scanner, computations);
      return;
    case 'select':
      into.select = parseCall(scanner, computations);
      return;
    case 'scatter':
      into.scatter = parseCall(scanner, computations);
      return;
    case 'kind':
      into.kind = choice(scanner, ['kLoop', 'kInput']) === 'kLoop' ? 'loop' : 'reduce';
      return;
    case 'algorithm':
      into.algorithm = choice(scanner, ['rng_philox']);
      return;
    case 'replica_groups':
      scanner.expect('{');
      if (!scanner.take('}')) scanner.fail('replica_groups={}, all replicas');
      return;
    case 'metadata':
      parseMetadata(scanner, into);
      return;
    case 'outfeed_shape':
    case 'infeed_shape':
      parseShape(scanner);
      return;
    // These attributes describe how or where XLA ran the program. They do not change its meaning.
    case 'sharding':
    case 'backend_config':
    case 'frontend_attributes':
    case 'channel_id':
    case 'use_global_device_ids':
    case 'constrain_layout':
    case 'control-predecessors':
    case 'infeed_config':
    case 'outfeed_config':
    case 'origin':
    case 'parameter_replication':
    case 'result_accuracy':
    case 'statistics':
      skipValue(scanner);
      return;
    default:
      scanner.fail('a known attribute', position);
  }
}

const directions = ['EQ', 'NE', 'LT', 'LE', 'GT', 'GE'] as const;

function choice<T extends string>(scanner: Scanner, choices: readonly T[]): T {
  const position = scanner.position;
  const word = scanner.tryMatch(identifierPattern);
  return choices.find((it) => it === word) ?? scanner.fail(choices.join(' or '), position);
}

/** Parses a range of a slice: `[start:limit]` or `[start:limit:stride]`. */
function parseRange(scanner: Scanner): [number, number, number] {
  scanner.expect('[');
  const start = integer(scanner);
  scanner.expect(':');
  const limit = integer(scanner);
  const stride = scanner.take(':') ? integer(scanner) : 1;
  scanner.expect(']');
  return [start, limit, stride];
}

function isScalarShape(shape: Shape): boolean {
  return isArray(shape) && shape.dims.length === 0;
}

/**
 * True for `0_0`: padding of one dimension by no elements. HLO texts may give this padding to a
 * scalar too, although a scalar has no dimension.
 */
function isNone(padding: readonly (readonly number[])[]): boolean {
  return padding.length === 1 && at(padding, 0).every((size) => size === 0);
}

/**
 * Parses padding such as `0_1x0_1_2`: low, high and optional interior padding of each dimension.
 * The padding of a scalar is empty or `0_0`.
 */
function parsePadding(scanner: Scanner): [number, number, number][] {
  const text = scanner.tryMatch(/-?\d+_-?\d+(_\d+)?(x-?\d+_-?\d+(_\d+)?)*/y) ?? '';
  if (text === '') return [];
  return text.split('x').map((part) => {
    const [low, high, interior] = part.split('_').map(Number);
    return [low!, high!, interior ?? 0];
  });
}

function parsePrecision(scanner: Scanner): Precision {
  const words = scanner.list('{', '}', () => choice(scanner, ['default', 'high', 'highest']));
  return words.every((word) => word === 'default') ? 'default' : 'highest';
}

function parseWindow(scanner: Scanner): WindowDimension[] {
  scanner.expect('{');
  const fields = new Map<string, string[]>();
  const start = scanner.position;
  while (!scanner.take('}')) {
    const key = scanner.match(
      /size|stride|pad|lhs_dilate|rhs_dilate|rhs_reversal/y,
      'a field of a window',
    );
    scanner.expect('=');
    const pattern = key === 'pad' ? /-?\d+_-?\d+(x-?\d+_-?\d+)*/y : /\d+(x\d+)*/y;
    fields.set(key, scanner.match(pattern, `sizes joined by x`).split('x'));
  }
  const sizes = fields.get('size') ?? [];
  for (const [key, parts] of fields) {
    if (parts.length !== sizes.length) scanner.fail(`${sizes.length} numbers for ${key}`, start);
  }
  const number = (key: string, i: number): number => Number(fields.get(key)?.[i] ?? 1);
  return sizes.map((size, i) => {
    const [padLow, padHigh] = (fields.get('pad')?.[i] ?? '0_0').split('_').map(Number);
    return windowDimension({
      size: Number(size),
      stride: number('stride', i),
      padLow: padLow!,
      padHigh: padHigh!,
      baseDilation: number('lhs_dilate', i),
      windowDilation: number('rhs_dilate', i),
      reversal: fields.get('rhs_reversal')?.[i] === '1',
    });
  });
}

/**
 * Parses the dimension labels of a convolution, such as `b01f_01io->b01f`: first of the input, then
 * of the kernel, then of the output. Each character names the role of one dimension: `b` is the
 * batch, `f` the feature, `i` the input feature, `o` the output feature. A digit is the index of a
 * spatial dimension.
 */
function parseLabels(scanner: Scanner): ConvolutionDimensions {
  const position = scanner.position;
  const text = scanner.match(/[bf0-9]+_[io0-9]+->[bf0-9]+/y, 'labels such as b01f_01io->b01f');
  const [input, kernel, output] = text.split(/_|->/) as [string, string, string];
  const rank = input.length;
  for (const labels of [input, kernel, output]) {
    const spatial = Array.from({ length: rank - 2 }, (_, i) => String(i)).join('');
    const letters = labels === kernel ? 'io' : 'bf';
    if ([...labels].sort().join('') !== [...(spatial + letters)].sort().join('')) {
      scanner.fail(`each of ${spatial}${letters} once in ${labels}`, position);
    }
  }
  const spatial = (labels: string): number[] =>
    Array.from({ length: rank - 2 }, (_, i) => labels.indexOf(String(i)));
  return {
    inputBatch: input.indexOf('b'),
    inputFeature: input.indexOf('f'),
    inputSpatial: spatial(input),
    kernelInputFeature: kernel.indexOf('i'),
    kernelOutputFeature: kernel.indexOf('o'),
    kernelSpatial: spatial(kernel),
    outputBatch: output.indexOf('b'),
    outputFeature: output.indexOf('f'),
    outputSpatial: spatial(output),
  };
}

function parseCall(
  scanner: Scanner,
  computations: ReadonlyMap<string, HloComputation>,
): HloComputation {
  const position = scanner.position;
  const name = parseName(scanner, 'a computation');
  return computations.get(name) ?? scanner.fail('a computation above', position);
}

/**
 * Parses metadata such as `{op_name="conv2/kernel" …}`. Keeps `op_name` as the name of the
 * instruction and skips all other fields.
 */
function parseMetadata(scanner: Scanner, into: Attributes): void {
  scanner.expect('{');
  while (!scanner.take('}')) {
    const key = scanner.match(identifierPattern, 'a field of metadata');
    scanner.expect('=');
    const position = scanner.position;
    const quoted = scanner.tryMatch(stringPattern);
    if (key === 'op_name') {
      into.name = unquoted(scanner, quoted ?? scanner.fail('a string', position), position);
    } else if (quoted === undefined) {
      skipValue(scanner);
    }
  }
}

const stringPattern = /"(?:[^"\\\n]|\\.)*"/y;

function unquoted(scanner: Scanner, quoted: string, position: number): string {
  try {
    return JSON.parse(quoted) as string;
  } catch (error) {
    throw scanner.error(`expected a string, found ${quoted}`, position, error);
  }
}

/**
 * Parsed parts of an instruction, from which {@link draftOf} makes a draft. A draft is an
 * instruction whose shape has not been inferred yet.
 */
interface Parsed extends Content {
  readonly scanner: Scanner;
  readonly opcodeAt: number;
  readonly opcode: Opcode;
  readonly shape: Shape;
  readonly attributes: Attributes;
}

function draftOf(parsed: Parsed): Draft {
  const { opcode, operands, shape, attributes, scanner, opcodeAt } = parsed;
  const need = <K extends keyof Attributes>(key: K): NonNullable<Attributes[K]> =>
    attributes[key] ?? scanner.fail(`attribute ${attributeNames[key] ?? key}`, opcodeAt);
  const node = { operands, shape, name: attributes.name };
  switch (opcode) {
    case 'parameter':
      return { ...node, opcode, index: parsed.index! };
    case 'constant':
      return { ...node, opcode, value: parsed.value! };
    case 'iota':
      return { ...node, opcode, dimension: need('iotaDimension') };
    case 'compare':
      return { ...node, opcode, direction: need('direction') };
    case 'broadcast':
    case 'reverse':
      return { ...node, opcode, dimensions: need('dimensions') };
    case 'transpose':
      return { ...node, opcode, permutation: need('dimensions') };
    case 'concatenate': {
      const [dimension, ...more] = need('dimensions');
      if (dimension === undefined || more.length > 0) {
        return scanner.fail('one dimension', opcodeAt);
      }
      return { ...node, opcode, dimension };
    }
    case 'slice': {
      const ranges = need('slice');
      const [starts, limits, strides] = columns(ranges);
      return { ...node, opcode, starts, limits, strides };
    }
    case 'pad': {
      const padding = need('padding');
      const isScalar = operands[0] !== undefined && isScalarShape(operands[0].shape);
      const [low, high, interior] = columns(isScalar && isNone(padding) ? [] : padding);
      return { ...node, opcode, low, high, interior };
    }
    case 'dot':
      return {
        ...node,
        opcode,
        lhsBatch: attributes.lhsBatch ?? [],
        rhsBatch: attributes.rhsBatch ?? [],
        lhsContracting: attributes.lhsContracting ?? [],
        rhsContracting: attributes.rhsContracting ?? [],
        precision: attributes.precision ?? 'default',
      };
    case 'convolution':
      return {
        ...node,
        opcode,
        window: attributes.window ?? [],
        dimensions: need('labels'),
        featureGroupCount: attributes.featureGroups ?? 1,
        batchGroupCount: attributes.batchGroups ?? 1,
        precision: attributes.precision ?? 'default',
      };
    case 'reduce':
      return { ...node, opcode, dimensions: need('dimensions'), body: need('body') };
    case 'reduce-window':
      return { ...node, opcode, window: attributes.window ?? [], body: need('body') };
    case 'select-and-scatter': {
      const bodies = { select: need('select'), scatter: need('scatter') };
      return { ...node, opcode, window: attributes.window ?? [], ...bodies };
    }
    case 'rng-bit-generator':
      return { ...node, opcode, algorithm: need('algorithm') };
    case 'all-reduce':
      return { ...node, opcode, body: need('body') };
    case 'get-tuple-element':
      return { ...node, opcode, index: need('index') };
    case 'fusion':
      return { ...node, opcode, kind: need('kind'), body: need('body') };
    default:
      // The remaining opcodes have no attributes, so `node` and `opcode` are a complete draft.
      // TypeScript cannot check this for several opcodes at once, so a cast is needed.
      return { ...node, opcode } as Draft;
  }
}

/** Name of an attribute in HLO text, if it differs from the key in {@link Attributes}. */
const attributeNames: Partial<Record<keyof Attributes, string>> = {
  iotaDimension: 'iota_dimension',
  labels: 'dim_labels',
  body: 'to_apply or calls',
};

function columns(
  rows: readonly (readonly [number, number, number])[],
): [number[], number[], number[]] {
  return [rows.map((row) => row[0]), rows.map((row) => row[1]), rows.map((row) => row[2])];
}

/**
 * Parses a shape such as `f32[2,3]` or `(f32[], token[])`. Ignores a layout, as in `f32[2,3]{1,0}`.
 */
function parseShape(scanner: Scanner): Shape {
  if (scanner.tryMatch(/(?=\()/y) !== undefined) {
    return { type: 'tuple', elements: scanner.list('(', ')', () => parseShape(scanner)) };
  }
  const position = scanner.position;
  const type = scanner.match(/[a-z][a-z0-9]*/y, 'a shape');
  if (type !== 'token' && !isElementType(type)) return scanner.fail('a shape', position);
  const dims = scanner.list('[', ']', () => integer(scanner));
  if (type === 'token') return { type: 'token' };
  scanner.tryMatch(/\{[\d,]*(:[^}]*)?\}/y);
  const shape: ArrayShape = arrayShape(type, dims);
  return shape;
}

function parseName(scanner: Scanner, what: string): string {
  return scanner.match(namePattern, `the name of ${what}`).replace('%', '');
}

function integer(scanner: Scanner): number {
  return Number(scanner.match(/-?\d+/y, 'an integer'));
}

function integers(scanner: Scanner): number[] {
  return scanner.list('{', '}', () => integer(scanner));
}

/** Skips the value of an ignored attribute: a word, a string, or text in balanced braces. */
function skipValue(scanner: Scanner): void {
  if (scanner.tryMatch(stringPattern) !== undefined) return;
  if (!scanner.take('{')) {
    scanner.match(/[^\s,{}]+/y, 'a value');
    return;
  }
  while (!scanner.take('}')) {
    if (scanner.atEnd) scanner.fail('"}"');
    if (scanner.tryMatch(/(?=[{"])/y) !== undefined) skipValue(scanner);
    else scanner.match(/[^{}"]+/y, 'a value');
  }
}
