import type { Buffer, Copies, Executable, MatmulInstruction } from '../isa/executable.ts';
import { assert, at } from '../numerics/assert.ts';

/**
 * Where an executable lies in the emulator's memory, in bytes from the arena's start: its buffers
 * where the compiler put them, then its tables, then {@link StackedRows}.
 */
export interface MemoryMap {
  /** Offset of each table. */
  readonly tables: readonly number[];
  readonly stackedRows: readonly StackedRows[];
  readonly bytes: number;
}

/**
 * The row table of a product whose left side differs from core to core and whose right side does
 * not: the rows of all cores one after another, so that one product serves them all. Each row of
 * a product is computed by itself, so the bits are the same.
 */
export interface StackedRows {
  readonly table: number;
  /** Elements between cores' copies of the left side. */
  readonly coreStride: number;
  readonly offset: number;
}

const alignment = 64;

/** Where everything goes. */
export function mapMemory(executable: Executable): MemoryMap {
  let end = align(buffersEnd(executable));
  const tables = executable.tables.map((table) => {
    const offset = end;
    end = align(end + table.byteLength);
    return offset;
  });
  const stackedRows: StackedRows[] = [];
  for (const instruction of executable.instructions) {
    if (instruction.unit !== 'mxu' || !servesAllCores(executable, instruction)) continue;
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

/** Whether one larger product gives the bits of every core's. */
export function servesAllCores(executable: Executable, it: MatmulInstruction): boolean {
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

/** Copies of a buffer on one Cloud TPU; the last of an odd number of cores is a chip of its own. */
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
