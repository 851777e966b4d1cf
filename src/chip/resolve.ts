import {
  type BufferId,
  type Buffer as DeviceBuffer,
  type Exchange,
  type Executable,
  type Instruction,
  type MatmulInstruction,
  type PlainInstruction,
  phases,
} from '../isa/executable.ts';
import { assert, at, unreachable } from '../numerics/assert.ts';
import type { ArrayShape } from '../numerics/shape.ts';
import { bufferOf, canStackCores, copyCount, type MemoryMap } from './memory-map.ts';
import type { MxuCall } from './mxu.ts';
import type {
  ExchangeOperation,
  FusedLoop,
  Operation,
  Place,
  PlainOperation,
} from './operation.ts';
import type { CoreUnits } from './units.ts';

/** A program that is being loaded, and where in memory it goes. */
export interface Context {
  readonly executable: Executable;
  readonly map: MemoryMap;
  readonly base: number;
  readonly loops: Readonly<Record<string, unknown>>;
  readonly units: Pick<CoreUnits, 'rowsPerCall' | 'plainCode'>;
}

/** Writes the offset tables of an executable to memory. */
export function writeTables(
  executable: Executable,
  map: MemoryMap,
  base: number,
  words: Int32Array,
): void {
  executable.tables.forEach((table, index) => {
    words.set(table, (base + at(map.tables, index)) >>> 2);
  });
  for (const { table, coreStride, offset } of map.stackedRows) {
    const rows = at(executable.tables, table);
    for (let core = 0; core < executable.cores; core++) {
      const start = ((base + offset) >>> 2) + core * rows.length;
      for (let m = 0; m < rows.length; m++) words[start + m] = rows[m]! + core * coreStride;
    }
  }
}

/** Instantiates the generated fused loops of an executable. */
export function instantiate(code: Uint8Array, memory: WebAssembly.Memory): Context['loops'] {
  if (code.length === 0) return {};
  return new WebAssembly.Instance(new WebAssembly.Module(code), { env: { memory } }).exports;
}

/** Resolves the operands of all instructions to addresses. */
export function resolveAll(context: Context): readonly Operation[] {
  const operations = context.executable.instructions.map((it) => resolve(context, it));
  markLastInfeed(operations);
  return operations;
}

function resolve(context: Context, it: Instruction): Operation {
  const phase = phases.indexOf(it.phase);
  const { executable } = context;
  switch (it.unit) {
    case 'mxu':
      return { unit: 'mxu', phase, calls: resolveMatmul(context, it) };
    case 'vpu': {
      const loop = context.loops[`f${it.function}`];
      assert(
        typeof loop === 'function',
        `${it.name}: the executable's code has no f${it.function}`,
      );
      const count = copiesOf(context, at(it.targets, 0));
      for (const target of it.targets) {
        assert(copiesOf(context, target) === count, `${it.name}: targets differ in copies`);
      }
      const calls = range(count).map((copy) =>
        [...it.sources, ...it.targets].map((id) => addressOf(context, id, copy)),
      );
      return { unit: 'vpu', phase, loop: loop as FusedLoop, calls };
    }
    case 'copy': {
      const moves = range(copiesOf(context, it.target)).map((copy) => ({
        from: addressOf(context, it.source, copy) + it.sourceOffset,
        to: addressOf(context, it.target, copy) + it.targetOffset,
        bytes: it.bytes,
      }));
      return { unit: 'copy', phase, moves };
    }
    case 'chip-sum':
      return resolveChipSum(context, it.source, it.target, phase);
    case 'rng': {
      const draws = range(copiesOf(context, it.bits)).map((copy) => ({
        state: addressOf(context, it.state, copy),
        newState: addressOf(context, it.newState, copy),
        bits: addressOf(context, it.bits, copy),
      }));
      return { unit: 'rng', phase, draws, elements: bufferOf(executable, it.bits).bytes / 4 };
    }
    case 'plain':
      return {
        unit: 'plain',
        phase,
        run: context.units.plainCode(it.module),
        calls: plainCalls(context, it),
      };
    case 'infeed':
      return {
        unit: 'infeed',
        phase,
        element: it.element,
        bytes: bufferOf(executable, it.target).bytes,
        targets: addressesOf(context, it.target),
        last: false,
      };
    case 'outfeed':
      return {
        unit: 'outfeed',
        phase,
        element: it.element,
        bytes: bufferOf(executable, it.source).bytes,
        sources: addressesOf(context, it.source),
      };
    case 'all-reduce-start':
    case 'all-reduce-done':
      return { unit: it.unit, phase, bucket: it.bucket };
    case 'exchange':
      return {
        unit: 'exchange',
        phase,
        collective: executable.buckets.length + it.exchange,
        zeroes: zeroesOf(context, at(executable.exchanges, it.exchange)),
      };
    default:
      return unreachable(it);
  }
}

/** Returns the memory that a permutation sets to zero before it starts. */
function zeroesOf(context: Context, { pattern, target }: Exchange): ExchangeOperation['zeroes'] {
  if (pattern.kind !== 'collective-permute') return [];
  const { bytes } = bufferOf(context.executable, target);
  return addressesOf(context, target).map((address) => ({ address, bytes }));
}

function plainCalls(context: Context, it: PlainInstruction): PlainOperation['calls'] {
  const { executable } = context;
  const place = (buffer: BufferId, copy: number, shape: ArrayShape): Place => {
    const { bytes } = bufferOf(executable, buffer);
    return { shape, address: addressOf(context, buffer, copy), bytes };
  };
  const [first] = it.targets;
  return range(first === undefined ? 0 : copiesOf(context, first)).map((copy) => ({
    sources: it.sources.map(({ buffer, shape }) => place(buffer, copy, shape)),
    targets: it.targets.map((id) => place(id, copy, bufferOf(executable, id).shape)),
  }));
}

/**
 * Resolves the addresses of a chip sum, which adds the values of each chip's two cores. If there is
 * only one core, the operation is a plain copy of the core's values.
 */
function resolveChipSum(
  context: Context,
  source: BufferId,
  target: BufferId,
  phase: number,
): Operation {
  const { executable } = context;
  const { bytes } = bufferOf(executable, target);
  const chips = range(copiesOf(context, target));
  if (executable.cores === 1) {
    const from = addressOf(context, source, 0);
    return { unit: 'copy', phase, moves: [{ from, to: addressOf(context, target, 0), bytes }] };
  }
  assert(executable.cores % 2 === 0, `${executable.cores} cores do not pair up to chips`);
  const sums = chips.map((chip) => ({
    to: addressOf(context, target, chip),
    a: addressOf(context, source, 2 * chip),
    b: addressOf(context, source, 2 * chip + 1),
  }));
  return { unit: 'add', phase, sums, elements: bytes / 4 };
}

function resolveMatmul(context: Context, it: MatmulInstruction): readonly MxuCall[] {
  const { executable } = context;
  const calls = canStackCores(executable, it)
    ? [stackedCall(context, it)]
    : range(copiesOf(context, it.target)).flatMap((copy) =>
        range(it.matmul.batch).map((batch) => copyCall(context, it, copy, batch)),
      );
  return calls.flatMap((call) => cutRows(call, context.units.rowsPerCall(call.n, call.k)));
}

/**
 * Returns the MXU call of a matmul that computes the results of all cores at once. The rows of core
 * 0 come first, then the rows of core 1, and so on.
 */
function stackedCall(context: Context, it: MatmulInstruction): MxuCall {
  const { executable, map, base } = context;
  const coreStride = bufferOf(executable, it.lhs).stride / 4;
  const stacked = map.stackedRows.find(
    (rows) => rows.table === it.matmul.rows && rows.coreStride === coreStride,
  );
  assert(stacked !== undefined, `${it.name}: no table for all cores`);
  return {
    ...copyCall(context, it, 0, 0),
    m: it.matmul.m * executable.cores,
    rowOffsets: base + stacked.offset,
  };
}

/**
 * Returns the MXU call for the matrix with index `batch` of a batched matmul. The call writes to
 * the copy with index `copy` of the target buffer. If the target has one copy for each chip and a
 * chip has two cores, the call adds two matmuls (segments), one for each core of the chip. In all
 * other cases the call is one matmul, with one segment.
 */
function copyCall(context: Context, it: MatmulInstruction, copy: number, batch: number): MxuCall {
  const { executable, map, base } = context;
  const { matmul } = it;
  const lhs = bufferOf(executable, it.lhs);
  const rhs = bufferOf(executable, it.rhs);
  const chip = bufferOf(executable, it.target).copies === 'chip';
  assert(
    !chip || (lhs.copies === 'core' && rhs.copies === 'core'),
    `${it.name}: operands of a chip matmul need a copy for each core`,
  );
  assert(
    executable.cores === 1 || executable.cores % 2 === 0 || !chip,
    `${it.name}: a chip matmul needs an even number of cores`,
  );
  const core = chip ? 2 * copy : copy;
  return {
    m: matmul.m,
    n: matmul.n,
    k: matmul.k,
    segments: chip && executable.cores > 1 ? 2 : 1,
    multiplicands: matmul.precision,
    lhs: addressOf(context, it.lhs, core) + 4 * tableEntry(executable, matmul.lhsBatch, batch),
    rhs: addressOf(context, it.rhs, core) + 4 * tableEntry(executable, matmul.rhsBatch, batch),
    result: addressOf(context, it.target, copy) + 4 * batch * matmul.m * matmul.n,
    rowOffsets: base + at(map.tables, matmul.rows),
    lhsDepthOffsets: base + at(map.tables, matmul.lhsDepth),
    rhsDepthOffsets: base + at(map.tables, matmul.rhsDepth),
    columnOffsets: base + at(map.tables, matmul.columns),
    lhsSegmentStride: lhs.stride,
    rhsSegmentStride: rhs.stride,
  };
}

function cutRows(call: MxuCall, rowsPerCall: number): readonly MxuCall[] {
  return range(Math.ceil(call.m / rowsPerCall)).map((piece) => {
    const first = piece * rowsPerCall;
    return {
      ...call,
      m: Math.min(rowsPerCall, call.m - first),
      rowOffsets: call.rowOffsets + 4 * first,
      result: call.result + 4 * first * call.n,
    };
  });
}

function markLastInfeed(operations: readonly Operation[]): void {
  const last = operations.findLast((it) => it.unit === 'infeed');
  if (last?.unit === 'infeed') last.last = true;
}

function tableEntry(executable: Executable, table: number, index: number): number {
  return at(at(executable.tables, table), index);
}

function copiesOf({ executable }: Context, id: BufferId): number {
  return copyCount(executable, bufferOf(executable, id).copies);
}

/**
 * Returns the byte address of the copy with index `copy` of the given buffer. All copies of a
 * `shared` buffer are the same memory, so they have the same address.
 */
function addressOf({ executable, base }: Context, id: BufferId, copy: number): number {
  const it: DeviceBuffer = bufferOf(executable, id);
  return base + it.offset + (it.copies === 'shared' ? 0 : copy * it.stride);
}

function addressesOf(context: Context, id: BufferId): readonly number[] {
  return range(copiesOf(context, id)).map((copy) => addressOf(context, id, copy));
}

function range(count: number): number[] {
  return Array.from({ length: count }, (_, i) => i);
}
