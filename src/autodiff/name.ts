import type { HloInstruction } from '../hlo/instruction.ts';

/**
 * Function that names instructions. It copies `root` and the instructions that `root` depends on,
 * gives the name `name` to each copy that has no name, and returns the copy of `root`. For an
 * instruction that it has copied in an earlier call, it takes the earlier copy.
 */
export type Namer = (root: HloInstruction, name: string) => HloInstruction;

/**
 * Returns a namer that leaves the instructions `existing` as they are, without a copy. All roots of
 * a module must go through the same namer: if two roots share an instruction, their copies must
 * share one copy of that instruction. The namer does not recurse, so only memory limits the length
 * of a chain of operands.
 */
export function namer(existing: Iterable<HloInstruction>): Namer {
  const seen = new Map<HloInstruction, HloInstruction>();
  for (const it of existing) seen.set(it, it);
  return (root, name) => {
    const pending = [root];
    for (let it = pending.at(-1); it !== undefined; it = pending.at(-1)) {
      const missing = it.operands.filter((operand) => !seen.has(operand));
      if (seen.has(it) || missing.length === 0) {
        pending.pop();
        if (!seen.has(it)) copy(it, name);
      } else {
        pending.push(...missing);
      }
    }
    return seen.get(root)!;
  };

  function copy(it: HloInstruction, name: string): void {
    const operands = it.operands.map((operand) => seen.get(operand)!);
    const after: HloInstruction = { ...it, operands, name: it.name ?? name };
    seen.set(it, after);
    seen.set(after, after);
  }
}
