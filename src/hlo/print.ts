import { unreachable } from '../numerics/assert.ts';
import { elementTypes } from '../numerics/element-type.ts';
import { type Literal, valueAt } from '../numerics/literal.ts';
import { product, shapeText } from '../numerics/shape.ts';
import type {
  Alias,
  ConvolutionDimensions,
  HloComputation,
  HloInstruction,
  HloModule,
  Precision,
  WindowDimension,
} from './instruction.ts';
import { bodiesOf, postOrder } from './traverse.ts';

/** Options of {@link print}. */
export interface PrintOptions {
  /**
   * Largest number of elements of a constant that is printed in full. Larger constants are printed
   * as `{...}`, which the parser refuses. By default there is no limit.
   */
  readonly elementsMax?: number;
}

/**
 * Returns a module in XLA's HLO text form. parse.ts parses the text to an equal module, except for
 * two changes of names. Characters that are invalid in a name become underscores. If several
 * computations have the same name, all but the first get a number after the name.
 */
export function print(module: HloModule, options: PrintOptions = {}): string {
  const names = nameComputations(module.entry);
  const aliases = module.aliases.map(aliasText(module));
  const header = [`HloModule ${identifier(module.name)}`];
  if (aliases.length > 0) header.push(`input_output_alias={ ${aliases.join(', ')} }`);
  const computations = [...names.keys()].map((computation) => {
    const entry = computation === module.entry ? 'ENTRY ' : '';
    return entry + computationText(computation, names, options);
  });
  return `${[header.join(', '), ...computations].join('\n\n')}\n`;
}

/**
 * Returns a function that prints an alias, such as `{2}: (3, {}, may-alias)`. Here 2 is the index
 * of an element of the module's result, and 3 is the index of a parameter. If the result is not a
 * tuple, it has no elements, so the first braces are empty.
 */
function aliasText({ entry }: HloModule): (alias: Alias) => string {
  const isTuple = entry.root.shape.type === 'tuple';
  return ({ output, parameter }) => `{${isTuple ? output : ''}}: (${parameter}, {}, may-alias)`;
}

type Names = ReadonlyMap<HloComputation, string>;

/** Returns a unique name for each computation, with called computations before their callers. */
function nameComputations(entry: HloComputation): Names {
  const names = new Map<HloComputation, string>();
  const taken = new Set<string>();
  visit(entry);
  return names;

  function visit(computation: HloComputation): void {
    if (names.has(computation)) return;
    for (const it of instructionsOf(computation)) bodiesOf(it).forEach(visit);
    const base = identifier(computation.name);
    let name = base;
    for (let n = 1; taken.has(name); n++) name = `${base}.${n}`;
    taken.add(name);
    names.set(computation, name);
  }
}

function instructionsOf({ parameters, root }: HloComputation): HloInstruction[] {
  return postOrder([...parameters, root]);
}

function identifier(name: string): string {
  const plain = name.replace(/[^A-Za-z0-9_.-]/g, '_');
  return /^[A-Za-z_]/.test(plain) ? plain : `_${plain}`;
}

function computationText(it: HloComputation, names: Names, options: PrintOptions): string {
  const order = instructionsOf(it);
  const labels = new Map(order.map((each, i) => [each, `%${each.opcode}.${i}`]));
  const parameters = it.parameters.map(
    (each) => `${labels.get(each)!.slice(1)}: ${shapeText(each.shape)}`,
  );
  const lines = order.map((each) => {
    const root = each === it.root ? 'ROOT ' : '';
    return `  ${root}${instructionText(each, labels, names, options)}`;
  });
  const result = shapeText(it.root.shape);
  const head = `%${names.get(it)!} (${parameters.join(', ')}) -> ${result} {`;
  return [head, ...lines, '}'].join('\n');
}

function instructionText(
  it: HloInstruction,
  labels: ReadonlyMap<HloInstruction, string>,
  names: Names,
  options: PrintOptions,
): string {
  const attributes = attributesOf(it, (body) => `%${names.get(body)!}`);
  if (it.name !== undefined) attributes.push(`metadata={op_name=${JSON.stringify(it.name)}}`);
  const inside = contentOf(it, labels, options);
  const head = `${labels.get(it)!} = ${shapeText(it.shape)} ${it.opcode}(${inside})`;
  return [head, ...attributes].join(', ');
}

function contentOf(
  it: HloInstruction,
  labels: ReadonlyMap<HloInstruction, string>,
  options: PrintOptions,
): string {
  if (it.opcode === 'parameter') return String(it.index);
  if (it.opcode === 'constant') return literalText(it.value, options);
  return it.operands.map((operand) => labels.get(operand)!).join(', ');
}

function literalText(
  value: Literal,
  { elementsMax = Number.POSITIVE_INFINITY }: PrintOptions,
): string {
  const { dims } = value.shape;
  if (product(dims) > elementsMax) return '{...}';
  return nested(0, 0);

  function nested(dimension: number, index: number): string {
    if (dimension === dims.length) return elementText(value, index);
    const size = dims[dimension]!;
    const items = Array.from({ length: size }, (_, i) => nested(dimension + 1, index * size + i));
    return size === 0 ? '{}' : `{ ${items.join(', ')} }`;
  }
}

function elementText(value: Literal, index: number): string {
  const element = valueAt(value, index);
  switch (elementTypes[value.shape.type].kind) {
    case 'pred':
      return element === 0 ? 'false' : 'true';
    case 'float':
      return floatText(element);
    default:
      return String(element);
  }
}

/** Returns the shortest decimal number that rounds to the same f32. */
export function floatText(value: number): string {
  if (Number.isNaN(value)) return 'nan';
  if (!Number.isFinite(value)) return value < 0 ? '-inf' : 'inf';
  // XLA's parser reads "-0" as an integer, and the sign of zero would be lost.
  if (Object.is(value, -0)) return '-0.0';
  for (let digits = 1; digits < 9; digits++) {
    const short = Number(value.toPrecision(digits));
    if (Math.fround(short) === value) return String(short);
  }
  return String(Number(value.toPrecision(9)));
}

function attributesOf(it: HloInstruction, nameOf: (body: HloComputation) => string): string[] {
  switch (it.opcode) {
    case 'iota':
      return [`iota_dimension=${it.dimension}`];
    case 'compare':
      return [`direction=${it.direction}`];
    case 'broadcast':
    case 'reverse':
      return [`dimensions=${listText(it.dimensions)}`];
    case 'transpose':
      return [`dimensions=${listText(it.permutation)}`];
    case 'concatenate':
      return [`dimensions={${it.dimension}}`];
    case 'slice': {
      const ranges = it.starts.map((start, d) => `[${start}:${it.limits[d]}:${it.strides[d]}]`);
      return [`slice={${ranges.join(', ')}}`];
    }
    case 'pad': {
      const sizes = it.low.map((low, d) => `${low}_${it.high[d]}_${it.interior[d]}`);
      // XLA's parser requires the padding of at least one dimension, even for a scalar.
      return [`padding=${sizes.length === 0 ? '0_0' : sizes.join('x')}`];
    }
    case 'dot':
      return [
        `lhs_batch_dims=${listText(it.lhsBatch)}`,
        `lhs_contracting_dims=${listText(it.lhsContracting)}`,
        `rhs_batch_dims=${listText(it.rhsBatch)}`,
        `rhs_contracting_dims=${listText(it.rhsContracting)}`,
        ...precisionText(it.precision),
      ];
    case 'convolution':
      return [
        `window=${windowText(it.window)}`,
        `dim_labels=${labelsText(it.dimensions)}`,
        ...(it.featureGroupCount > 1 ? [`feature_group_count=${it.featureGroupCount}`] : []),
        ...(it.batchGroupCount > 1 ? [`batch_group_count=${it.batchGroupCount}`] : []),
        ...precisionText(it.precision),
      ];
    case 'reduce':
      return [`dimensions=${listText(it.dimensions)}`, `to_apply=${nameOf(it.body)}`];
    case 'reduce-window':
      return [`window=${windowText(it.window)}`, `to_apply=${nameOf(it.body)}`];
    case 'select-and-scatter':
      return [
        `window=${windowText(it.window)}`,
        `select=${nameOf(it.select)}`,
        `scatter=${nameOf(it.scatter)}`,
      ];
    case 'rng-bit-generator':
      return [`algorithm=${it.algorithm}`];
    case 'all-reduce':
      return ['replica_groups={}', `to_apply=${nameOf(it.body)}`];
    case 'get-tuple-element':
      return [`index=${it.index}`];
    case 'fusion':
      return [`kind=${it.kind === 'loop' ? 'kLoop' : 'kInput'}`, `calls=${nameOf(it.body)}`];
    case 'parameter':
    case 'constant':
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
    case 'select':
    case 'clamp':
    case 'convert':
    case 'bitcast-convert':
    case 'reshape':
    case 'after-all':
    case 'infeed':
    case 'outfeed':
    case 'tuple':
      return [];
    default:
      return unreachable(it);
  }
}

function listText(values: readonly number[]): string {
  return `{${values.join(',')}}`;
}

function precisionText(precision: Precision): string[] {
  return precision === 'highest' ? ['operand_precision={highest,highest}'] : [];
}

/**
 * Prints a window such as `{size=3x3 stride=2x2 pad=0_1x0_1}`. Omits a field that has its default
 * value in every dimension.
 */
function windowText(window: readonly WindowDimension[]): string {
  const over = (text: (it: WindowDimension) => string | number): string =>
    window.map(text).join('x');
  const parts = window.length === 0 ? [] : [`size=${over(({ size }) => size)}`];
  if (window.some(({ stride }) => stride !== 1)) parts.push(`stride=${over((it) => it.stride)}`);
  if (window.some(({ padLow, padHigh }) => padLow !== 0 || padHigh !== 0)) {
    parts.push(`pad=${over(({ padLow, padHigh }) => `${padLow}_${padHigh}`)}`);
  }
  if (window.some(({ baseDilation }) => baseDilation !== 1)) {
    parts.push(`lhs_dilate=${over((it) => it.baseDilation)}`);
  }
  if (window.some(({ windowDilation }) => windowDilation !== 1)) {
    parts.push(`rhs_dilate=${over((it) => it.windowDilation)}`);
  }
  if (window.some(({ reversal }) => reversal)) {
    parts.push(`rhs_reversal=${over(({ reversal }) => Number(reversal))}`);
  }
  return `{${parts.join(' ')}}`;
}

/**
 * Prints the dimension labels of a convolution, such as `b01f_01io->b01f`: first of the input, then
 * of the kernel, then of the output. Each character names the role of one dimension: `b` is the
 * batch, `f` the feature, `i` the input feature, `o` the output feature. A digit is the index of a
 * spatial dimension.
 */
function labelsText(of: ConvolutionDimensions): string {
  const input = rolesText({ b: of.inputBatch, f: of.inputFeature }, of.inputSpatial);
  const kernel = rolesText(
    { i: of.kernelInputFeature, o: of.kernelOutputFeature },
    of.kernelSpatial,
  );
  const output = rolesText({ b: of.outputBatch, f: of.outputFeature }, of.outputSpatial);
  return `${input}_${kernel}->${output}`;
}

function rolesText(roles: Readonly<Record<string, number>>, spatial: readonly number[]): string {
  const labels: string[] = [];
  for (const [role, dimension] of Object.entries(roles)) labels[dimension] = role;
  spatial.forEach((dimension, i) => {
    labels[dimension] = String(i);
  });
  return labels.join('');
}
