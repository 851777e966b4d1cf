import type { BufferId, Executable } from '../isa/executable.ts';
import { assert, at } from '../numerics/assert.ts';
import { bufferOf, copyCount, mapMemory } from './memory-map.ts';
import { execute, type Machine, type Operation } from './operation.ts';
import type { Ports } from './ports.ts';
import { instantiate, resolveAll, writeTables } from './resolve.ts';
import { withSwappedParameters } from './swapped.ts';
import type { CoreUnits } from './units.ts';
import type { VectorUnit } from './vector-unit.ts';

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
   * 64). `firstReplica` is the number of the first core among the replicas.
   */
  constructor(executable: Executable, base: number, units: CoreUnits, firstReplica = 0) {
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
    this.#writeConstants(firstReplica);
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

  #writeConstants(firstReplica: number): void {
    const { executable } = this;
    for (const { buffer, data } of executable.constants) {
      const { copies } = bufferOf(executable, buffer);
      for (let copy = 0; copy < copyCount(executable, copies); copy++) {
        const bytes = data === 'replica-id' ? bytesOfU32(firstReplica + copy) : data;
        this.#bytes.set(bytes, this.#address(buffer, copy));
      }
    }
  }
}

function bytesOfU32(value: number): Uint8Array {
  return new Uint8Array(Uint32Array.of(value).buffer);
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
