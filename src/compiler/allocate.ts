import { assert } from '../numerics/assert.ts';

/** A block of memory. The block is in use from step `start` to step `end`, both included. */
export interface Block {
  readonly bytes: number;
  readonly start: number;
  readonly end: number;
}

export interface Allocation {
  /** Offset of each block, in bytes. */
  readonly offsets: readonly number[];
  /** Bytes from offset 0 to the end of the highest block. */
  readonly extent: number;
}

/**
 * Places blocks so that no two blocks overlap while both are in use. Larger blocks are placed
 * first. Each block goes into the smallest gap that is large enough, between the placed blocks that
 * are in use at the same time as the block. If no gap is large enough, the block goes above them. A
 * block of 0 bytes takes no room. The result is deterministic. XLA's global decreasing-size heap
 * has the same strategy.
 */
export function allocate(blocks: readonly Block[], alignment: number): Allocation {
  const offsets = new Array<number>(blocks.length).fill(0);
  const placed: Placed[] = [];
  let extent = 0;
  for (const index of bySize(blocks)) {
    const { bytes, start, end } = blocks[index]!;
    assert(start <= end, `block ${index} ends at ${end}, before its start ${start}`);
    if (bytes === 0) continue;
    const size = align(bytes, alignment);
    const offset = tightestGap(placed, start, end, size);
    insert(placed, { offset, size, start, end });
    offsets[index] = offset;
    extent = Math.max(extent, offset + size);
  }
  return { offsets, extent };
}

/** Returns the smallest multiple of `alignment` that is at least `bytes`. */
export function align(bytes: number, alignment: number): number {
  return Math.ceil(bytes / alignment) * alignment;
}

interface Placed {
  readonly offset: number;
  readonly size: number;
  readonly start: number;
  readonly end: number;
}

function bySize(blocks: readonly Block[]): number[] {
  const key = (i: number): Block => blocks[i]!;
  return blocks
    .map((_, i) => i)
    .sort((a, b) => key(b).bytes - key(a).bytes || key(a).start - key(b).start || a - b);
}

/**
 * Returns the offset for a block of `size` bytes that is in use from step `start` to step `end`.
 * The function considers only placed blocks that are in use at some of these steps. The offset is
 * that of the smallest gap between these blocks that is large enough. If no gap is large enough, it
 * is the end of the highest of these blocks. `placed` has all placed blocks, by ascending offset.
 */
function tightestGap(placed: readonly Placed[], start: number, end: number, size: number): number {
  let best = -1;
  let bestRoom = Number.POSITIVE_INFINITY;
  let free = 0;
  for (const other of placed) {
    if (other.end < start || end < other.start) continue;
    const room = other.offset - free;
    if (room >= size && room < bestRoom) {
      best = free;
      bestRoom = room;
    }
    free = Math.max(free, other.offset + other.size);
  }
  return best >= 0 ? best : free;
}

function insert(placed: Placed[], block: Placed): void {
  let low = 0;
  let high = placed.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (placed[middle]!.offset <= block.offset) low = middle + 1;
    else high = middle;
  }
  placed.splice(low, 0, block);
}
