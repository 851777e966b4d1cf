import type { HloInstruction } from '../hlo/instruction.ts';

/**
 * Returns a copy of `root` and of the instructions that `root` depends on, in which every
 * instruction without a name is called `name`. An instruction that this namer has seen before is
 * not copied again.
 */
export type Namer = (root: HloInstruction, name: string) => HloInstruction;

/**
 * Returns a namer that treats `existing` as already seen. All roots of a module must go through the
 * same namer. If two roots share an instruction, their renamed copies then share it too.
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
