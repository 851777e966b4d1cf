import type { HloComputation, HloInstruction } from '../hlo/instruction.ts';
import { postOrder } from '../hlo/traverse.ts';
import type { Literal } from '../numerics/literal.ts';

/**
 * Returns a text that is equal for two computations if and only if the computations have the same
 * opcodes, attributes, constants (to the bit) and operands. Names of instructions do not matter.
 */
export function structureOf(computation: HloComputation): string {
  const order = postOrder([...computation.parameters, computation.root]);
  const numbers = new Map(order.map((it, i) => [it, i]));
  const lines = order.map((it) => structureKey(it, (operand) => numbers.get(operand)!));
  return `${lines.join(';')}=${numbers.get(computation.root)}`;
}

/** Returns the text of one instruction. In the text, `numberOf(operand)` stands for an operand. */
export function structureKey(
  it: HloInstruction,
  numberOf: (operand: HloInstruction) => number,
): string {
  const attributes = Object.entries(it)
    .filter(([name, value]) => name !== 'operands' && name !== 'name' && value !== undefined)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, value]) => `${name}:${attributeText(value)}`);
  return `${attributes.join(' ')}(${it.operands.map(numberOf).join(',')})`;
}

function attributeText(value: unknown): string {
  if (isComputation(value)) return `{${structureOf(value)}}`;
  if (Array.isArray(value)) return `[${value.map(attributeText).join()}]`;
  if (isLiteral(value)) return literalText(value);
  return JSON.stringify(value);
}

function isComputation(value: unknown): value is HloComputation {
  return typeof value === 'object' && value !== null && 'root' in value && 'parameters' in value;
}

function isLiteral(value: unknown): value is Literal {
  return typeof value === 'object' && value !== null && 'data' in value && 'shape' in value;
}

function literalText({ shape, data }: Literal): string {
  const bytes = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
  return `${shape.type}[${shape.dims.join(',')}]${bytes.toString('base64')}`;
}
