import { assert } from '../numerics/assert.ts';
import { inferShape } from './infer.ts';
import type { Draft, HloComputation, HloInstruction } from './instruction.ts';
import { definitionOf } from './ops.ts';

/**
 * Returns the roots and all instructions on which they depend, each instruction once. Operands come
 * before their users, and the operands of one instruction keep their order. The function does not
 * recurse, so only memory limits the length of a chain of operands.
 */
export function postOrder(roots: HloInstruction | readonly HloInstruction[]): HloInstruction[] {
  const order: HloInstruction[] = [];
  const seen = new Set<HloInstruction>();
  const path: { readonly it: HloInstruction; next: number }[] = [];
  for (const root of 'opcode' in roots ? [roots] : roots) {
    if (!seen.has(root)) enter(root);
    while (path.length > 0) {
      const top = path[path.length - 1]!;
      const operand = top.it.operands[top.next++];
      if (operand === undefined) order.push(path.pop()!.it);
      else if (!seen.has(operand)) enter(operand);
    }
  }
  return order;

  function enter(it: HloInstruction): void {
    seen.add(it);
    path.push({ it, next: 0 });
  }
}

/**
 * Returns, for each instruction, how many times it is an operand of other instructions. The count
 * of an unused root is 0.
 */
export function users(
  roots: HloInstruction | readonly HloInstruction[],
): Map<HloInstruction, number> {
  const order = postOrder(roots);
  const counts = new Map<HloInstruction, number>(order.map((it) => [it, 0]));
  for (const it of order) {
    for (const operand of it.operands) counts.set(operand, counts.get(operand)! + 1);
  }
  return counts;
}

/**
 * Returns a copy of `it` with other operands and a newly inferred shape. If the operands are the
 * same objects as before, returns `it` itself.
 */
export function withOperands<T extends HloInstruction>(
  it: T,
  operands: readonly HloInstruction[],
): T {
  if (sameItems(it.operands, operands)) return it;
  const draft = { ...it, operands };
  return { ...draft, shape: inferShape(draft as unknown as Draft) };
}

/**
 * Rewrites a computation, instruction by instruction, operands before their users. `rewrite`
 * receives an instruction and its rewritten operands, and returns the replacement. A parameter must
 * be replaced by a parameter.
 *
 * To keep an instruction, `rewrite` returns the result of {@link withOperands}, which is the
 * instruction itself unless an operand has changed. If no instruction changes, `mapInstructions`
 * returns `computation` itself.
 */
export function mapInstructions(
  computation: HloComputation,
  rewrite: (it: HloInstruction, operands: readonly HloInstruction[]) => HloInstruction,
): HloComputation {
  const replaced = new Map<HloInstruction, HloInstruction>();
  const now = (it: HloInstruction): HloInstruction => {
    const found = replaced.get(it);
    assert(found !== undefined, `${it.opcode} is rewritten before its users`);
    return found;
  };
  for (const it of postOrder([...computation.parameters, computation.root])) {
    const operands = it.operands.map(now);
    replaced.set(it, rewrite(it, sameItems(it.operands, operands) ? it.operands : operands));
  }
  const root = now(computation.root);
  const parameters = computation.parameters.map((it) => {
    const found = now(it);
    assert(found.opcode === 'parameter', `parameter ${it.index} became ${found.opcode}`);
    return found;
  });
  const same = root === computation.root && sameItems(computation.parameters, parameters);
  return same ? computation : { ...computation, parameters, root };
}

/**
 * Returns a copy of the root of a computation, and of what the root depends on, in which `operands`
 * replace the parameters.
 */
export function inlined(
  { root }: HloComputation,
  operands: readonly HloInstruction[],
): HloInstruction {
  const made = new Map<HloInstruction, HloInstruction>();
  for (const it of postOrder(root)) {
    const copied = it.operands.map((x) => made.get(x)!);
    made.set(it, it.opcode === 'parameter' ? operands[it.index]! : withOperands(it, copied));
  }
  return made.get(root)!;
}

/** Returns the computations that an instruction calls. */
export function bodiesOf(it: HloInstruction): readonly HloComputation[] {
  return definitionOf(it.opcode).bodies?.(it) ?? [];
}

/** Returns a computation and all computations that it calls, directly or through others. */
export function computationsOf(entry: HloComputation): HloComputation[] {
  const found = new Set([entry]);
  // A `for` loop over a set also visits the elements that the loop itself adds.
  for (const { parameters, root } of found) {
    for (const it of postOrder([...parameters, root])) {
      for (const body of bodiesOf(it)) found.add(body);
    }
  }
  return [...found];
}

/** Returns all computations that an instruction calls, directly or through others. */
export function calledFrom(it: HloInstruction): HloComputation[] {
  return [...new Set(bodiesOf(it).flatMap(computationsOf))];
}

function sameItems<T>(a: readonly T[], b: readonly T[]): boolean {
  return a === b || (a.length === b.length && a.every((item, i) => item === b[i]));
}
