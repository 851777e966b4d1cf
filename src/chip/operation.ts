import { unreachable } from '../numerics/assert.ts';
import { bytesOf, literalOfBytes } from '../numerics/literal.ts';
import type { ArrayShape } from '../numerics/shape.ts';
import type { Mxu, MxuCall } from './mxu.ts';
import type { Ports } from './ports.ts';
import type { PlainCode } from './units.ts';
import type { VectorUnit } from './vector-unit.ts';

/**
 * An instruction after loading, with the addresses of all copies of its buffers (each core or chip
 * may have a copy of its own). `phase` is an index into `phases` of isa/executable.ts.
 */
export type Operation =
  | MxuOperation
  | FusedLoopOperation
  | CopyOperation
  | ChipSumOperation
  | RngOperation
  | PlainOperation
  | InfeedOperation
  | OutfeedOperation
  | AllReduceOperation
  | ExchangeOperation;

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
export interface PlainOperation {
  readonly unit: 'plain';
  readonly phase: number;
  readonly run: PlainCode;
  readonly calls: readonly {
    readonly sources: readonly Place[];
    readonly targets: readonly Place[];
  }[];
}
/** An array in memory. */
export interface Place {
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

export interface ExchangeOperation {
  readonly unit: 'exchange';
  readonly phase: number;
  /** Number of the collective in the calls of the ICI port. */
  readonly collective: number;
  /** Memory that becomes zero first, because not every replica receives a row. */
  readonly zeroes: readonly { readonly address: number; readonly bytes: number }[];
}

/** A generated function on the vector unit. Takes byte addresses. */
export type FusedLoop = (...addresses: number[]) => void;

/** Memory and units that operations work on. */
export interface Machine {
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
export function execute(
  machine: Machine,
  operation: Operation,
  ports: Ports,
  inFlight: boolean,
): number {
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
    case 'exchange':
      for (let i = 0; i < operation.zeroes.length; i++) {
        const { address, bytes } = operation.zeroes[i]!;
        machine.bytes.fill(0, address, address + bytes);
      }
      ports.ici.start(operation.collective);
      ports.ici.finish(operation.collective);
      return 0;
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
