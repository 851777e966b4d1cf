import type { Buffer, Executable } from '../isa/executable.ts';
import { at } from '../numerics/assert.ts';
import { bufferOf } from './memory-map.ts';

/**
 * Returns a copy of `executable` in which each parameter's buffer and the buffer of its new value
 * (`Executable.next`) have exchanged addresses. A step of the copy reads the parameters that a step
 * of `executable` has written, and writes where a step of `executable` reads. If `executable`
 * updates its parameters in place, the function returns `executable` itself.
 */
export function withSwappedParameters(executable: Executable): Executable {
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

/**
 * Describes the move of the buffer `from` to the address of the buffer `to`. Every buffer whose
 * byte offset is from `start` to `end` − 1 is `from` itself or lies inside `from`. All these
 * buffers move by `by` bytes.
 */
function moveOf(from: Buffer, to: Buffer): { start: number; end: number; by: number } {
  return { start: from.offset, end: from.offset + from.bytes, by: to.offset - from.offset };
}
