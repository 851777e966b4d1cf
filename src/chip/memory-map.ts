import type { Buffer, Copies, Executable, MatmulInstruction } from '../isa/executable.ts';
import { assert, at } from '../numerics/assert.ts';

/**
 * Layout of an executable in its arena (the executable's part of the emulator's memory). The arena
 * holds, in this order: the buffers, at the offsets that the compiler assigned; the tables of the
 * executable; and the tables for matmuls of all cores at once ({@link StackedRows}). All offsets
 * are in bytes from the start of the arena.
 */
export interface MemoryMap {
  /** Byte offset of each table of the executable. */
  readonly tables: readonly number[];
  readonly stackedRows: readonly StackedRows[];
  readonly bytes: number;
}

/**
 * Table of row offsets for a single matmul that computes the results of all cores: the rows of core
 * 0 come first, then the rows of core 1, and so on. Such a matmul is possible if each core has its
 * own left operand and all cores share the right operand. The result is bit-identical to that of
 * separate matmuls, because each row is computed independently.
 */
export interface StackedRows {
  readonly table: number;
  /** Distance in elements from one core's copy of the left operand to the next core's copy. */
  readonly coreStride: number;
  readonly offset: number;
}

const alignment = 64;

/** Computes the layout of an executable in its arena. */
export function mapMemory(executable: Executable): MemoryMap {
  let end = align(buffersEnd(executable));
  const tables = executable.tables.map((table) => {
    const offset = end;
    end = align(end + table.byteLength);
    return offset;
  });
  const stackedRows: StackedRows[] = [];
  for (const instruction of executable.instructions) {
    if (instruction.unit !== 'mxu' || !canStackCores(executable, instruction)) continue;
    const table = instruction.matmul.rows;
    const coreStride = bufferOf(executable, instruction.lhs).stride / 4;
    if (stackedRows.some((it) => it.table === table && it.coreStride === coreStride)) continue;
    stackedRows.push({ table, coreStride, offset: end });
    end = align(end + at(executable.tables, table).byteLength * executable.cores);
  }
  return { tables, stackedRows, bytes: end };
}

function buffersEnd({ buffers, cores, arenaBytes }: Executable): number {
  let end = 0;
  for (const it of buffers) {
    const last = it.offset + (copyCount({ cores }, it.copies) - 1) * it.stride + it.bytes;
    assert(last <= arenaBytes, `${it.name} ends at ${last} of ${arenaBytes} bytes`);
    end = Math.max(end, last);
  }
  return end;
}

/** True if one matmul with {@link StackedRows} can compute the results of all cores. */
export function canStackCores(executable: Executable, it: MatmulInstruction): boolean {
  const lhs = bufferOf(executable, it.lhs);
  const target = bufferOf(executable, it.target);
  const { batch, m, n } = it.matmul;
  return (
    executable.cores > 1 &&
    batch === 1 &&
    lhs.copies === 'core' &&
    bufferOf(executable, it.rhs).copies === 'shared' &&
    target.copies === 'core' &&
    target.stride === m * n * 4 &&
    lhs.stride % 4 === 0
  );
}

export function bufferOf(executable: Executable, id: number): Buffer {
  return at(executable.buffers, id);
}

/**
 * Returns the number of copies of a buffer on one Cloud TPU: a single copy, one copy for each core,
 * or one copy for each chip (pair of cores). If the number of cores is odd, the last core counts as
 * a chip of its own.
 */
export function copyCount({ cores }: Pick<Executable, 'cores'>, copies: Copies): number {
  switch (copies) {
    case 'shared':
      return 1;
    case 'core':
      return cores;
    case 'chip':
      return Math.ceil(cores / 2);
  }
}

function align(offset: number): number {
  return Math.ceil(offset / alignment) * alignment;
}
