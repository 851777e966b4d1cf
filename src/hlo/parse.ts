import { PodError } from '../numerics/error.ts';
import { type Shape, sameShape, shapeText, tupleShape } from '../numerics/shape.ts';
import { make } from './build.ts';
import type {
  Alias,
  Draft,
  HloComputation,
  HloInstruction,
  HloModule,
  Parameter,
} from './instruction.ts';
import type { Definition } from './ops/definition.ts';
import { definitionOf, effectOf, isOpcode } from './ops.ts';
import {
  identifierPattern,
  readInteger,
  readIntegers,
  readName,
  readShape,
  skipValue,
  stringPattern,
} from './text/read.ts';
import { Scanner } from './text/scanner.ts';
import { postOrder } from './traverse.ts';

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
  const path = readIntegers(scanner);
  if (path.length > 1) scanner.fail('an element of the root tuple, not of a nested tuple');
  scanner.expect(':');
  const whole = !scanner.take('(');
  const parameter = readInteger(scanner);
  if (!whole) {
    scanner.expect(',');
    if (readIntegers(scanner).length > 0) scanner.fail('a parameter that is an array');
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
  const name = readName(scanner, 'a computation');
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
    readName(scanner, 'a parameter');
    scanner.expect(':');
    return readShape(scanner);
  });
  scanner.expect('->');
  return { parameters, result: readShape(scanner) };
}

function checkSignature(
  scanner: Scanner,
  position: number,
  { parameters, result }: Signature,
  computation: HloComputation,
): void {
  const found = computation.parameters.map((it: Parameter) => it.shape);
  const fits =
    sameShape(tupleShape(found), tupleShape(parameters)) &&
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
    const effect = effectOf(it);
    if (effect !== undefined && effect !== 'orders' && !reached.has(it)) {
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
  const label = readName(scanner, 'an instruction');
  scanner.expect('=');
  const shapeAt = scanner.position;
  const shape = readShape(scanner);
  const opcodeAt = scanner.position;
  const opcode = scanner.match(/[a-z][a-z0-9]*(-[a-z0-9]+)*/y, 'an opcode');
  if (!isOpcode(opcode)) return scanner.fail('an opcode', opcodeAt);
  const definition = definitionOf(opcode);
  const content = parseContent(scanner, definition, shape, scope);
  const attributes = parseAttributes(scanner, definition, { ...scope, ...content, opcodeAt });
  const draft = { opcode, shape, ...content, ...attributes } as Draft;
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

/** Fields of an instruction that the text between its parentheses gives. */
type Content = Pick<HloInstruction, 'operands'>;

function parseContent(
  scanner: Scanner,
  { content }: Definition,
  shape: Shape,
  { instructions }: Scope,
): Content {
  if (content !== undefined) {
    scanner.expect('(');
    const fields = content.read(scanner, shape);
    scanner.expect(')');
    return { operands: [], ...fields };
  }
  const operands = scanner.list('(', ')', () => {
    if (scanner.tryMatch(/(?=\(|[a-z][a-z0-9]*\[)/y) !== undefined) readShape(scanner);
    const position = scanner.position;
    const name = readName(scanner, 'an operand');
    return instructions.get(name) ?? scanner.fail('an instruction above', position);
  });
  return { operands };
}

/** Attributes that say how or where XLA ran the program. They do not change its meaning. */
const ignored: ReadonlySet<string> = new Set([
  'sharding',
  'backend_config',
  'frontend_attributes',
  'channel_id',
  'use_global_device_ids',
  'constrain_layout',
  'control-predecessors',
  'infeed_config',
  'outfeed_config',
  'origin',
  'parameter_replication',
  'result_accuracy',
  'statistics',
]);

interface AttributesScope extends Scope, Content {
  readonly opcodeAt: number;
}

/** Parses the attributes of an instruction. Returns the fields that follow from them. */
function parseAttributes(
  scanner: Scanner,
  { attributes = [] }: Definition,
  scope: AttributesScope,
): Partial<HloInstruction> {
  const fields: Partial<HloInstruction>[] = [];
  const missing = new Map(attributes.map((it) => [it.key, it]));
  while (scanner.take(',')) {
    const position = scanner.position;
    const key = scanner.match(identifierPattern, 'an attribute');
    scanner.expect('=');
    const known = attributes.find((it) => it.key === key);
    if (known !== undefined) fields.push(known.read(scanner, scope));
    else if (key === 'metadata') fields.push(parseMetadata(scanner));
    else if (ignored.has(key)) skipValue(scanner);
    else scanner.fail('a known attribute', position);
    missing.delete(key);
  }
  for (const { key, otherwise } of missing.values()) {
    fields.push(otherwise ?? scanner.fail(`attribute ${key}`, scope.opcodeAt));
  }
  return Object.assign({}, ...fields) as Partial<HloInstruction>;
}

/**
 * Parses metadata such as `{op_name="conv2/kernel" …}`. Keeps `op_name` as the name of the
 * instruction and skips all other fields.
 */
function parseMetadata(scanner: Scanner): Pick<HloInstruction, 'name'> {
  let name: string | undefined;
  scanner.expect('{');
  while (!scanner.take('}')) {
    const key = scanner.match(identifierPattern, 'a field of metadata');
    scanner.expect('=');
    const position = scanner.position;
    const quoted = scanner.tryMatch(stringPattern);
    if (key === 'op_name') {
      name = unquoted(scanner, quoted ?? scanner.fail('a string', position), position);
    } else if (quoted === undefined) {
      skipValue(scanner);
    }
  }
  return { name };
}

function unquoted(scanner: Scanner, quoted: string, position: number): string {
  try {
    return JSON.parse(quoted) as string;
  } catch (error) {
    throw scanner.error(`expected a string, found ${quoted}`, position, error);
  }
}
