import { PodError } from '../numerics/error.ts';
import { elementCount, isArray, type Shape, sameShape, shapeText } from '../numerics/shape.ts';
import { inferShape } from './infer.ts';
import type { HloComputation, HloInstruction, HloModule } from './instruction.ts';
import { refuse } from './ops/check.ts';
import { effectOf } from './ops.ts';
import { computationsOf, postOrder } from './traverse.ts';

/**
 * Checks a module against all rules of HLO. Throws `bad-program` at the first broken rule. The main
 * rules:
 *
 * - The shape of each instruction follows from its operands and attributes.
 * - Parameters are numbered from 0.
 * - If an instruction calls a computation, the computation has the parameters and the result that
 *   the instruction needs.
 * - Each infeed depends on the infeed before it through its token. The same holds for outfeeds.
 * - An alias connects a result and a parameter of the same shape.
 */
export function verify(module: HloModule): void {
  const { entry } = module;
  for (const it of computationsOf(entry)) {
    verifyComputation(it);
    if (it !== entry) refuseEffects(it);
  }
  for (const it of entry.parameters) {
    if (!isArray(it.shape)) refuse(it, `an array, not ${shapeText(it.shape)}`);
  }
  verifyEffects(entry);
  verifyAliases(module);
}

function verifyComputation(computation: HloComputation): void {
  const order = postOrder([...computation.parameters, computation.root]);
  const done = new Set<HloInstruction>();
  for (const it of order) {
    if (!it.operands.every((operand) => done.has(operand)))
      refuse(it, 'an instruction that does not depend on itself');
    done.add(it);
    verifyInstruction(it);
  }
  verifyParameters(computation, order);
}

function verifyInstruction(it: HloInstruction): void {
  const inferred = inferShape(it);
  if (!sameShape(inferred, it.shape)) {
    refuse(it, `the shape ${shapeText(inferred)}, not ${shapeText(it.shape)}`);
  }
  if (it.opcode !== 'constant') return;
  const { data, shape } = it.value;
  const count = elementCount(shape);
  if (data.length !== count) refuse(it, `${count} values, not ${data.length}`);
}

function verifyParameters(
  { name, parameters }: HloComputation,
  order: readonly HloInstruction[],
): void {
  parameters.forEach((it, i) => {
    if (it.index !== i) refuse(it, `number ${i} in ${name}, not ${it.index}`);
  });
  const declared = new Set<HloInstruction>(parameters);
  for (const it of order) {
    if (it.opcode !== 'parameter' || declared.has(it)) continue;
    refuse(it, `number ${it.index} to be one of the ${parameters.length} parameters of ${name}`);
  }
}

function refuseEffects(body: HloComputation): void {
  for (const it of postOrder(body.root)) {
    if (effectOf(it) !== undefined)
      refuse(it, `to stand in the entry computation, not in ${body.name}`);
  }
}

/**
 * Checks that at most one infeed or outfeed uses each token. Also checks that the infeeds have only
 * one possible order, because each infeed depends on the infeed before it. The same holds for the
 * outfeeds.
 */
function verifyEffects(entry: HloComputation): void {
  const order = postOrder(entry.root);
  const spent = new Set<HloInstruction>();
  for (const it of order) {
    if (it.opcode !== 'infeed' && it.opcode !== 'outfeed') continue;
    const token = it.operands[it.operands.length - 1]!;
    const source = token.opcode === 'get-tuple-element' ? token.operands[0]! : token;
    if (spent.has(source)) refuse(it, 'a token that nothing else uses');
    spent.add(source);
  }
  for (const opcode of ['infeed', 'outfeed'] as const) verifyOrder(order, opcode);
}

function verifyOrder(order: readonly HloInstruction[], opcode: 'infeed' | 'outfeed'): void {
  /**
   * Depth of each instruction. A path starts at an instruction and leads to one of its operands, to
   * an operand of that operand, and so on. On each path, the instructions with `opcode` are
   * counted, the first instruction of the path included. The depth is the largest count of all
   * paths from the instruction. Two instructions with `opcode` and the same depth do not depend on
   * each other, so their order would be open.
   */
  const depths = new Map<HloInstruction, number>();
  const taken = new Set<number>();
  for (const it of order) {
    let depth = 0;
    for (const operand of it.operands) depth = Math.max(depth, depths.get(operand)!);
    if (it.opcode === opcode) {
      depth += 1;
      if (taken.has(depth)) refuse(it, `a token that comes from the ${opcode} before it`);
      taken.add(depth);
    }
    depths.set(it, depth);
  }
}

function verifyAliases({ name, entry, aliases }: HloModule): void {
  const { root, parameters } = entry;
  const outputs: readonly Shape[] =
    root.shape.type === 'tuple' ? root.shape.elements : [root.shape];
  for (const { output, parameter } of aliases) {
    const from = outputs[output];
    const to = parameters[parameter]?.shape;
    if (from !== undefined && to !== undefined && sameShape(from, to)) continue;
    const found = `${from && shapeText(from)} and ${to && shapeText(to)}`;
    throw aliasError(name, `output ${output} and parameter ${parameter} of one shape`, found);
  }
  for (const end of ['output', 'parameter'] as const) {
    if (new Set(aliases.map((alias) => alias[end])).size === aliases.length) continue;
    throw aliasError(name, `each ${end} at most once`, aliases.map((alias) => alias[end]).join());
  }
}

function aliasError(name: string, expected: string, found: string): PodError {
  return new PodError('bad-program', `aliases of ${name}: expected ${expected}, found ${found}`);
}
