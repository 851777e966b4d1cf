import type { HloInstruction } from '../hlo/instruction.ts';

/**
 * Names `root` and every instruction it needs that has not been seen before, but for those that
 * have a name already; from then on they count as seen. Returns the new root.
 */
export type Namer = (root: HloInstruction, name: string) => HloInstruction;

/** A namer that has seen `existing`. Ask it for each root: what roots share stays shared. */
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
