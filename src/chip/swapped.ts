import type { Buffer, Executable } from '../isa/executable.ts';
import { at } from '../numerics/assert.ts';
import { bufferOf } from './memory-map.ts';

/**
 * Returns the executable with the memory of parameters and their `next` buffers exchanged. A step
 * of the result reads the parameters that a step of `executable` has written, and the reverse.
 * Returns `executable` itself if it updates in place.
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
 * Returns the range of offsets of `from` and its distance to `to`. Buffers in the range move by it.
 */
function moveOf(from: Buffer, to: Buffer): { start: number; end: number; by: number } {
  return { start: from.offset, end: from.offset + from.bytes, by: to.offset - from.offset };
}
