import {
  type BufferId,
  type Buffer as DeviceBuffer,
  type Executable,
  type Instruction,
  type MatmulInstruction,
  type PlainInstruction,
  phases,
} from '../isa/executable.ts';
import { assert, at, unreachable } from '../numerics/assert.ts';
import { bytesOf, type Literal, literalOfBytes } from '../numerics/literal.ts';
import type { ArrayShape } from '../numerics/shape.ts';
import { bufferOf, canStackCores, copyCount, type MemoryMap, mapMemory } from './memory-map.ts';
import type { Mxu, MxuCall } from './mxu.ts';
import type { Ports } from './ports.ts';
import { withSwappedParameters } from './swapped.ts';
import type { VectorUnit } from './vector-unit.ts';

/** The units of a Cloud TPU's cores. All units work on the same shared memory. */
export interface CoreUnits {
  readonly memory: WebAssembly.Memory;
  readonly mxu: Mxu;
  readonly vector: VectorUnit;
  /**
   * Returns the largest number of rows of the result that one MXU call may compute, for a matmul of
   * `n` columns and depth `k`. A matmul with more rows is cut into several calls, because the
   * progress counter (`Ports.beat`) can advance only between calls. If the counter stood still for
   * long, the Cloud TPU would seem lost. The cuts do not change the result, because each row is
   * computed independently.
   */
  readonly rowsPerCall: (n: number, k: number) => number;
  /**
   * Returns the function that runs a module in HLO text on arrays: one for each parameter. It
   * returns one array for each result. See `PlainInstruction` in isa/executable.ts.
   */
  readonly plainCode: (module: string) => PlainCode;
}

/** A module that plain code runs: takes an array for each parameter, and returns the results. */
export type PlainCode = (operands: readonly Literal[]) => readonly Literal[];

/** Returns the number of bytes of the emulator's memory that an executable needs. */
export function coreBytes(executable: Executable): number {
  return mapMemory(executable).bytes;
}

/**
 * The cores of one Cloud TPU with a loaded program. The cores run in lockstep, so a value that is
 * equal on all cores is computed only once. Loading the program resolves all operands to addresses,
 * so that a step allocates no memory.
 *
 * A program has two sets of parameters in memory: the current set and the other set. (Exception: a
 * program without `Executable.next` updates its one set in place.) A step reads the current set and
 * writes the other set, which then becomes the current set. A step that is aborted or not committed
 * can therefore run again, because the set that it read is unchanged.
 */
export class CloudTpuCores {
  readonly executable: Executable;
  readonly #base: number;
  readonly #bytes: Uint8Array;
  readonly #vector: VectorUnit;
  readonly #machine: Machine;
  /**
   * The program in two forms, which differ only in the addresses of the parameters. Form 0 reads
   * the parameters from set 0 and writes their new values to set 1. Form 1 reads set 1 and writes
   * set 0.
   */
  readonly #roles: readonly [Executable, Executable];
  readonly #operations: readonly [readonly Operation[], readonly Operation[]];
  #present: ParameterSet = 0;

  /**
   * Loads `executable` into the shared memory of `units`, at byte address `base` (a multiple of
   * 64).
   */
  constructor(executable: Executable, base: number, units: CoreUnits) {
    assert(base % 64 === 0, `arena at ${base}, not aligned to 64`);
    const map = mapMemory(executable);
    const available = units.memory.buffer.byteLength;
    assert(base + map.bytes <= available, `arena ends at ${base + map.bytes} of ${available}`);
    this.executable = executable;
    this.#base = base;
    this.#bytes = new Uint8Array(units.memory.buffer);
    this.#vector = units.vector;
    this.#machine = {
      bytes: this.#bytes,
      words: new Uint32Array(units.memory.buffer),
      mxu: units.mxu,
      vector: units.vector,
    };
    const other = withSwappedParameters(executable);
    this.#roles = [executable, other];
    writeTables(executable, map, base, new Int32Array(units.memory.buffer));
    this.#writeConstants();
    const loops = instantiate(executable.code, units.memory);
    const operations = (role: Executable): readonly Operation[] =>
      resolveAll({ executable: role, map, base, loops, units });
    const forward = operations(executable);
    this.#operations = [forward, other === executable ? forward : operations(other)];
  }

  /**
   * Index of the current set of parameters, which the next step reads. If the program updates its
   * parameters in place, sets 0 and 1 are the same memory.
   */
  get present(): ParameterSet {
    return this.#present;
  }

  /**
   * Makes `set` the current set of parameters, which the next step reads. To run a step again,
   * select the set that the step read before.
   */
  select(set: ParameterSet): void {
    this.#present = set;
  }

  /**
   * Runs one step. Measures the wall time of each phase in ms and adds the time to `phaseMs[i]`,
   * where i is the index of the phase in `phases` of isa/executable.ts. `clock` returns the time in
   * ms. If a port throws an error, the step ends with this error.
   */
  run(ports: Ports, clock: () => number, phaseMs: Float64Array): void {
    const operations = this.#operations[this.#present];
    let inFlight = 0;
    let phase = 0;
    let since = clock();
    ports.enter?.(phase);
    for (let i = 0; i < operations.length; i++) {
      const operation = operations[i]!;
      if (operation.phase !== phase) {
        const now = clock();
        phaseMs[phase]! += now - since;
        since = now;
        phase = operation.phase;
        ports.enter?.(phase);
      }
      inFlight += execute(this.#machine, operation, ports, inFlight > 0);
      ports.beat();
    }
    phaseMs[phase]! += clock() - since;
    this.#present = this.#present === 0 ? 1 : 0;
  }

  /**
   * Returns a snapshot of the copy with index `copy` of the given buffer. Buffers have one copy for
   * each core, one copy for each chip, or a single shared copy (see `Copies` in isa/executable.ts).
   */
  readBuffer(id: BufferId, copy = 0): Uint8Array {
    const { bytes } = bufferOf(this.executable, id);
    const address = this.#address(id, copy);
    return this.#bytes.slice(address, address + bytes);
  }

  /** Writes parameter `index` of the current set. `bytes` must have the size of the parameter. */
  writeParameter(index: number, bytes: Uint8Array): void {
    const id = at(this.executable.parameters, index);
    const { name, bytes: expected } = bufferOf(this.executable, id);
    assert(bytes.length === expected, `${name} takes ${expected} bytes, not ${bytes.length}`);
    this.#bytes.set(bytes, this.#address(id, 0));
  }

  readParameter(index: number): Uint8Array {
    return this.readBuffer(at(this.executable.parameters, index));
  }

  /**
   * Copies all parameters of the current set of `other` into the current set of these cores. Each
   * parameter is copied to the parameter with the same index.
   */
  takeParameters(other: CloudTpuCores): void {
    this.executable.parameters.forEach((id, index) => {
      const source = at(other.executable.parameters, index);
      const { bytes, name } = bufferOf(this.executable, id);
      const found = bufferOf(other.executable, source).bytes;
      assert(found === bytes, `${name} has ${bytes} bytes here and ${found} there`);
      const from = other.#address(source, 0);
      this.#bytes.copyWithin(this.#address(id, 0), from, from + bytes);
    });
  }

  /**
   * Returns the digest (see numerics/digest.ts) of the first `count` parameters of the current set,
   * taken together.
   */
  digestParameters(count: number): bigint {
    let digest = 0n;
    for (let index = 0; index < count; index++) {
      const id = at(this.executable.parameters, index);
      const words = Math.ceil(bufferOf(this.executable, id).bytes / 4);
      digest = this.#vector.digest(this.#address(id, 0), words, digest);
    }
    return BigInt.asUintN(64, digest);
  }

  /**
   * Returns the byte address of the copy with index `copy` of the given buffer. For a parameter,
   * this is the address in the current set.
   */
  #address(id: BufferId, copy: number): number {
    const it = bufferOf(this.#roles[this.#present], id);
    assert(copy < copyCount(this.executable, it.copies), `${it.name} has no copy ${copy}`);
    return this.#base + it.offset + copy * it.stride;
  }

  #writeConstants(): void {
    const { executable } = this;
    for (const { buffer, data } of executable.constants) {
      const { copies } = bufferOf(executable, buffer);
      for (let copy = 0; copy < copyCount(executable, copies); copy++) {
        this.#bytes.set(data, this.#address(buffer, copy));
      }
    }
  }
}

/**
 * Index of a set of parameters. Each step reads one set and writes the other, so that the
 * parameters from before the step remain available. Exception: if a program updates its parameters
 * in place, both sets are the same memory.
 */
export type ParameterSet = 0 | 1;

/**
 * Returns the index of the set that holds the parameters after `steps` steps: 0 after an even
 * number of steps, 1 after an odd number.
 */
export function setAfter(steps: number): ParameterSet {
  return steps % 2 === 0 ? 0 : 1;
}

// ------------------------------------------------------------------------------------- operations

/**
 * An instruction after loading, with the addresses of all copies of its buffers (each core or chip
 * may have a copy of its own). `phase` is an index into `phases` of isa/executable.ts.
 */
type Operation =
  | MxuOperation
  | FusedLoopOperation
  | CopyOperation
  | ChipSumOperation
  | RngOperation
  | PlainOperation
  | InfeedOperation
  | OutfeedOperation
  | AllReduceOperation;

interface MxuOperation {
  readonly unit: 'mxu';
  readonly phase: number;
  readonly calls: readonly MxuCall[];
}
interface FusedLoopOperation {
  readonly unit: 'vpu';
  readonly phase: number;
  readonly loop: FusedLoop;
  /**
   * Arguments of each call of the fused loop: byte addresses of all sources, then of all targets.
   */
  readonly calls: readonly (readonly number[])[];
}
interface CopyOperation {
  readonly unit: 'copy';
  readonly phase: number;
  readonly moves: readonly CopyRange[];
}
interface CopyRange {
  readonly from: number;
  readonly to: number;
  readonly bytes: number;
}
interface ChipSumOperation {
  readonly unit: 'add';
  readonly phase: number;
  readonly sums: readonly { readonly to: number; readonly a: number; readonly b: number }[];
  readonly elements: number;
}
interface RngOperation {
  readonly unit: 'rng';
  readonly phase: number;
  readonly draws: readonly {
    readonly state: number;
    readonly newState: number;
    readonly bits: number;
  }[];
  readonly elements: number;
}
interface PlainOperation {
  readonly unit: 'plain';
  readonly phase: number;
  readonly run: PlainCode;
  readonly calls: readonly {
    readonly sources: readonly Place[];
    readonly targets: readonly Place[];
  }[];
}
/** An array in memory. */
interface Place {
  readonly shape: ArrayShape;
  readonly address: number;
  readonly bytes: number;
}
interface InfeedOperation {
  readonly unit: 'infeed';
  readonly phase: number;
  readonly element: number;
  readonly bytes: number;
  /** One entry for each core: the byte address to which the element of the infeed is copied. */
  readonly targets: readonly number[];
  /**
   * True for the last infeed operation of a step. After this operation, the cores call
   * `InfeedPort.release`, because they have read the whole infeed of the step.
   */
  last: boolean;
}
interface OutfeedOperation {
  readonly unit: 'outfeed';
  readonly phase: number;
  readonly element: number;
  readonly bytes: number;
  readonly sources: readonly number[];
}
interface AllReduceOperation {
  readonly unit: 'all-reduce-start' | 'all-reduce-done';
  readonly phase: number;
  readonly bucket: number;
}

type FusedLoop = (...addresses: number[]) => void;

/** Memory and units that operations work on. */
interface Machine {
  readonly bytes: Uint8Array;
  readonly words: Uint32Array;
  readonly mxu: Mxu;
  readonly vector: VectorUnit;
}

/**
 * Executes the given operation. `inFlight` is true if at least one all-reduce is running. In this
 * case the function also advances the running all-reduces, after each MXU call and after each call
 * of a fused loop. Returns by how much the operation changes the number of running all-reduces: 1,
 * 0 or −1.
 */
function execute(machine: Machine, operation: Operation, ports: Ports, inFlight: boolean): number {
  switch (operation.unit) {
    case 'mxu':
      for (let i = 0; i < operation.calls.length; i++) {
        machine.mxu.multiply(operation.calls[i]!);
        reportProgress(ports, inFlight);
      }
      return 0;
    case 'vpu':
      for (let i = 0; i < operation.calls.length; i++) {
        invoke(operation.loop, operation.calls[i]!);
        reportProgress(ports, inFlight);
      }
      return 0;
    case 'copy':
      for (let i = 0; i < operation.moves.length; i++) {
        const { from, to, bytes } = operation.moves[i]!;
        move(machine, to, from, bytes);
      }
      return 0;
    case 'add':
      for (let i = 0; i < operation.sums.length; i++) {
        const { to, a, b } = operation.sums[i]!;
        machine.vector.add(to, a, b, operation.elements);
      }
      return 0;
    case 'rng':
      for (let i = 0; i < operation.draws.length; i++) {
        const { state, newState, bits } = operation.draws[i]!;
        draw(machine, state, newState, bits, operation.elements);
      }
      return 0;
    case 'plain':
      for (let i = 0; i < operation.calls.length; i++) {
        const { sources, targets } = operation.calls[i]!;
        runPlain(machine, operation.run, sources, targets);
        reportProgress(ports, inFlight);
      }
      return 0;
    case 'infeed':
      for (let core = 0; core < operation.targets.length; core++) {
        const from = ports.infeed.address(operation.element, core);
        move(machine, operation.targets[core]!, from, operation.bytes);
      }
      if (operation.last) ports.infeed.release();
      return 0;
    case 'outfeed':
      for (let core = 0; core < operation.sources.length; core++) {
        ports.outfeed.send(operation.element, core, operation.sources[core]!, operation.bytes);
      }
      return 0;
    case 'all-reduce-start':
      ports.ici.start(operation.bucket);
      return 1;
    case 'all-reduce-done':
      ports.ici.finish(operation.bucket);
      return -1;
    default:
      return unreachable(operation);
  }
}

function reportProgress(ports: Ports, inFlight: boolean): void {
  ports.beat();
  if (inFlight) ports.ici.progress();
}

/** Calls a fused loop. Direct calls with up to six arguments are faster than `Reflect.apply`. */
function invoke(loop: FusedLoop, a: readonly number[]): void {
  if (a.length === 1) loop(a[0]!);
  else if (a.length === 2) loop(a[0]!, a[1]!);
  else if (a.length === 3) loop(a[0]!, a[1]!, a[2]!);
  else if (a.length === 4) loop(a[0]!, a[1]!, a[2]!, a[3]!);
  else if (a.length === 5) loop(a[0]!, a[1]!, a[2]!, a[3]!, a[4]!);
  else if (a.length === 6) loop(a[0]!, a[1]!, a[2]!, a[3]!, a[4]!, a[5]!);
  else Reflect.apply(loop, undefined, a);
}

/** Runs plain code on copies of the sources, and copies the results to the targets. */
function runPlain(
  { bytes }: Machine,
  run: PlainCode,
  sources: readonly Place[],
  targets: readonly Place[],
): void {
  const operands = sources.map(({ shape, address, bytes: count }) =>
    literalOfBytes(shape, bytes.subarray(address, address + count)),
  );
  run(operands).forEach((result, i) => {
    bytes.set(bytesOf(result), targets[i]!.address);
  });
}

function move({ vector, bytes }: Machine, to: number, from: number, count: number): void {
  vector.copy(to, from, count >>> 2);
  for (let i = count & ~3; i < count; i++) bytes[to + i] = bytes[from + i]!;
}

/**
 * Writes `count` random words to address `bits` and the advanced generator state to address
 * `newState`. A state consists of four words: key0, key1, counter0, counter1. The counter advances
 * by one for every four random words.
 */
function draw(
  machine: Machine,
  state: number,
  newState: number,
  bits: number,
  count: number,
): void {
  const { words, vector } = machine;
  const key0 = words[state >>> 2]!;
  const key1 = words[(state >>> 2) + 1]!;
  const counter0 = words[(state >>> 2) + 2]!;
  const counter1 = words[(state >>> 2) + 3]!;
  vector.philox(bits, count, key0, key1, counter0, counter1, 0, 0);
  const advanced = counter0 + Math.ceil(count / 4);
  const to = newState >>> 2;
  words[to] = key0;
  words[to + 1] = key1;
  words[to + 2] = advanced;
  words[to + 3] = counter1 + Math.floor(advanced / 2 ** 32);
}

// ---------------------------------------------------------------------------------------- loading

interface Context {
  readonly executable: Executable;
  readonly map: MemoryMap;
  readonly base: number;
  readonly loops: Readonly<Record<string, unknown>>;
  readonly units: Pick<CoreUnits, 'rowsPerCall' | 'plainCode'>;
}

function writeTables(
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

function instantiate(code: Uint8Array, memory: WebAssembly.Memory): Context['loops'] {
  if (code.length === 0) return {};
  return new WebAssembly.Instance(new WebAssembly.Module(code), { env: { memory } }).exports;
}

function resolveAll(context: Context): readonly Operation[] {
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
      return { unit: 'plain', phase, run: context.units.plainCode(it.module), calls: plainCalls(context, it) };
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
    default:
      return unreachable(it);
  }
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
