import type { Buffer, Executable } from '../isa/executable.ts';
import { at } from '../numerics/assert.ts';
import { bufferOf } from './memory-map.ts';

/**
 * The same executable where parameters and their `next` buffers have changed places: what a step
 * of the one writes, a step of the other reads. An executable that updates in place is its own.
 */
export function swapped(executable: Executable): Executable {
  const { parameters, next, buffers } = executable;
  if (next === undefined) return executable;
  const moves = parameters.flatMap((id, index) => {
    const before = bufferOf(executable, id);
    const after = bufferOf(executable, at(next, index));
    return before === after ? [] : [moveOf(before, after), moveOf(after, before)];
  });
  const moved = buffers.map((it) => {
    const move = moves.find(({ start, end }) => start <= it.offset && it.offset < end);
    return move === undefined ? it : { ...it, offset: it.offset + move.by };
  });
  return { ...executable, buffers: moved };
}

/** Whatever lies in `from` goes to where `to` is. */
function moveOf(from: Buffer, to: Buffer): { start: number; end: number; by: number } {
  return { start: from.offset, end: from.offset + from.bytes, by: to.offset - from.offset };
}
