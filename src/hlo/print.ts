import { shapeText } from '../numerics/shape.ts';
import type { Alias, HloComputation, HloInstruction, HloModule } from './instruction.ts';
import { definitionOf } from './ops.ts';
import type { NameOf } from './text/attribute.ts';
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
  { elementsMax }: PrintOptions,
): string {
  const { content } = definitionOf(it.opcode);
  if (content !== undefined) return content.write(it, elementsMax);
  return it.operands.map((operand) => labels.get(operand)!).join(', ');
}

function attributesOf(it: HloInstruction, nameOf: NameOf): string[] {
  const { attributes = [] } = definitionOf(it.opcode);
  return attributes.flatMap(({ key, write }) => {
    const text = write(it, nameOf);
    return text === undefined ? [] : [`${key}=${text}`];
  });
}
