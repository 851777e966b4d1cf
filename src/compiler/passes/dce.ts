import { allReduce, getTupleElement } from '../../hlo/build.ts';
import type { AllReduce, HloInstruction, HloModule } from '../../hlo/instruction.ts';
import { mapInstructions, postOrder, withOperands } from '../../hlo/traverse.ts';
import { assert, at } from '../../numerics/assert.ts';

/**
 * Eliminates dead code. A module contains only instructions that the root depends on. So only one
 * thing can be dead: an element of an all-reduce's result that no instruction reads. Infeed data
 * that no instruction reads stays, because the host sends it in any case.
 */
export function dce(module: HloModule): HloModule {
  const read = elementsRead(module);
  const entry = mapInstructions(module.entry, (it, operands) => {
    if (it.opcode === 'all-reduce') return narrowed(withOperands(it, operands), read.get(it));
    const before = it.operands[0];
    const kept = before && read.get(before);
    if (
      it.opcode !== 'get-tuple-element' ||
      before?.opcode !== 'all-reduce' ||
      kept === undefined
    ) {
      return withOperands(it, operands);
    }
    const source = at(operands, 0);
    const index = [...kept].sort((a, b) => a - b).indexOf(it.index);
    assert(index >= 0, 'an element that is read is kept');
    return kept.size === 1 ? source : named(getTupleElement(source, index), it.name);
  });
  return { ...module, entry };
}

/**
 * Returns an entry for each all-reduce whose result is a tuple. The entry has the indices of the
 * elements that instructions read. The entry is undefined if an instruction uses the tuple as a
 * whole.
 */
function elementsRead({ entry }: HloModule): Map<HloInstruction, Set<number> | undefined> {
  const read = new Map<HloInstruction, Set<number> | undefined>();
  for (const it of postOrder(entry.root)) {
    if (it.opcode === 'all-reduce' && it.shape.type === 'tuple') read.set(it, new Set());
    for (const operand of it.operands) {
      if (it.opcode === 'get-tuple-element') read.get(operand)?.add(it.index);
      else if (read.has(operand)) read.set(operand, undefined);
    }
  }
  if (read.has(entry.root)) read.set(entry.root, undefined);
  return read;
}

function narrowed(it: AllReduce, kept: Set<number> | undefined): HloInstruction {
  if (kept === undefined || kept.size === 0 || kept.size === it.operands.length) return it;
  const operands = it.operands.filter((_, i) => kept.has(i));
  return named(allReduce(operands, it.body, it.groups), it.name);
}

function named<T extends HloInstruction>(x: T, name: string | undefined): T {
  return name === undefined ? x : { ...x, name };
}
