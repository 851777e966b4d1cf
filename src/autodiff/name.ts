import type { HloInstruction } from '../hlo/instruction.ts';

/**
 * Gives every instruction that `root` needs and that is not in `known` the name that `name` says,
 * and makes them known. A name that is there already stays. Returns the new root.
 */
export function nameNew(
  root: HloInstruction,
  known: Set<HloInstruction>,
  name: (it: HloInstruction) => string,
): HloInstruction {
  return nameAllNew([root], known, name)[0]!;
}

/** {@link nameNew} for several roots that share instructions. */
export function nameAllNew(
  roots: readonly HloInstruction[],
  known: Set<HloInstruction>,
  name: (it: HloInstruction) => string,
): HloInstruction[] {
  const renamed = new Map<HloInstruction, HloInstruction>();
  const visit = (it: HloInstruction): HloInstruction => {
    if (known.has(it)) return it;
    const before = renamed.get(it);
    if (before !== undefined) return before;
    const operands = it.operands.map(visit);
    const after: HloInstruction = { ...it, operands, name: it.name ?? name(it) };
    renamed.set(it, after);
    known.add(after);
    return after;
  };
  return roots.map(visit);
}
