import type { HloInstruction } from '../hlo/instruction.ts';

/**
 * Gives `name` to `root` and to every unnamed instruction that `root` depends on, except those that
 * this namer has seen before. All of them count as seen afterwards. Returns the new root.
 */
export type Namer = (root: HloInstruction, name: string) => HloInstruction;

/**
 * Returns a namer that counts `existing` as seen. Use the same namer for all roots of a module:
 * instructions that the roots share then stay shared.
 */
export function namer(existing: Iterable<HloInstruction>): Namer {
  const seen = new Map<HloInstruction, HloInstruction>();
  for (const it of existing) seen.set(it, it);
  const visit = (it: HloInstruction, name: string): HloInstruction => {
    const before = seen.get(it);
    if (before !== undefined) return before;
    const operands = it.operands.map((operand) => visit(operand, name));
    const after: HloInstruction = { ...it, operands, name: it.name ?? name };
    seen.set(it, after);
    seen.set(after, after);
    return after;
  };
  return visit;
}
