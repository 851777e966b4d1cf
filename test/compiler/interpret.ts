import type { FusedLoop } from '../../src/compiler/codegen/fused-loop.ts';
import { computation, parameter, rngBitGenerator } from '../../src/hlo/build.ts';
import type { EvaluateInputs } from '../../src/hlo/evaluate.ts';
import { evaluateComputation, type Value } from '../../src/hlo/evaluate.ts';
import { plainCode } from '../../src/hlo/plain-code.ts';
import type {
  Buffer,
  Exchange,
  Executable,
  Instruction,
  MatmulInstruction,
} from '../../src/isa/executable.ts';
import { assert, at, unreachable } from '../../src/numerics/assert.ts';
import { roundToBf16 } from '../../src/numerics/bf16.ts';
import { type Literal, storage, valueAt } from '../../src/numerics/literal.ts';
import { type ArrayShape, elementCount } from '../../src/numerics/shape.ts';
import { exchangeRows } from './exchange-rows.ts';

/** Results of one step of an executable. */
export interface StepResult {
  /** For each core, the results in the order of the root tuple. */
  readonly results: readonly (readonly Literal[])[];
  /** For each core, the arrays that it sent to the host. */
  readonly outfeed: readonly (readonly Literal[])[];
}

/**
 * Runs an executable on plain bytes, as src/isa defines its instructions. A matmul sums in the
 * order that docs/ARCHITECTURE.md defines. The body of a fused loop is run by `evaluate`. An
 * all-reduce sums over the chips of one Cloud TPU.
 */
export function interpret(
  executable: Executable,
  loops: readonly FusedLoop[],
  cores: readonly EvaluateInputs[],
): StepResult {
  const machine = new Machine(executable, loops, cores);
  for (const it of executable.instructions) machine.run(it);
  return machine.result();
}

class Machine {
  readonly #executable: Executable;
  readonly #fusedLoops: readonly FusedLoop[];
  readonly #cores: readonly EvaluateInputs[];
  readonly #arena: Uint8Array;
  readonly #sent: Literal[][];

  constructor(
    executable: Executable,
    loops: readonly FusedLoop[],
    cores: readonly EvaluateInputs[],
  ) {
    assert(cores.length === executable.cores, 'inputs for each core');
    this.#executable = executable;
    this.#fusedLoops = loops;
    this.#cores = cores;
    // All memory is NaN at first. A read of memory that was never written then shows in the
    // results.
    this.#arena = new Uint8Array(executable.arenaBytes).fill(0xff);
    this.#sent = cores.map(() => []);
    for (const { buffer, data } of executable.constants) {
      if (data !== 'replica-id') this.#write(buffer, 0, data);
      else
        cores.forEach((_, core) => {
          this.#write(buffer, core, new Uint8Array(Uint32Array.of(core).buffer));
        });
    }
    at(cores, 0).parameters.forEach((it, i) => {
      this.#write(at(executable.parameters, i), 0, bytesOf(it));
    });
  }

  run(it: Instruction): void {
    switch (it.unit) {
      case 'infeed':
        this.#cores.forEach(({ infeed }, core) => {
          this.#write(it.target, core, bytesOf(at((infeed ?? []).flat(), it.element)));
        });
        break;
      case 'outfeed':
        this.#cores.forEach((_, core) => {
          const { shape } = at(this.#executable.outfeed, it.element);
          at(this.#sent, core)[it.element] = this.#read(it.source, core, shape);
        });
        break;
      case 'mxu':
        this.#each(it.target, (copy) => this.#matmul(it, copy));
        break;
      case 'vpu':
        this.#each(at(it.targets, 0), (copy) => this.#loop(it, copy));
        break;
      case 'copy':
        this.#each(it.target, (copy) => {
          const from = this.#bytes(it.source, copy).slice(
            it.sourceOffset,
            it.sourceOffset + it.bytes,
          );
          this.#bytes(it.target, copy).set(from, it.targetOffset);
        });
        break;
      case 'chip-sum':
        this.#each(it.target, (chip) => {
          assert(this.#buffer(it.source).copies === 'core', 'a chip sums what differs by core');
          const a = this.#floats(it.source, 2 * chip);
          const alone = this.#executable.cores === 1;
          const b = alone ? a : this.#floats(it.source, 2 * chip + 1);
          this.#writeFloats(it.target, chip, (i) => (alone ? a[i]! : a[i]! + b[i]!));
        });
        break;
      case 'rng':
        this.#each(it.bits, (copy) => this.#random(it, copy));
        break;
      case 'plain':
        this.#each(at(it.targets, 0), (copy) => this.#plain(it, copy));
        break;
      case 'all-reduce-start':
        break;
      case 'all-reduce-done':
        this.#allReduce(it.bucket);
        break;
      case 'exchange':
        this.#exchange(at(this.#executable.exchanges, it.exchange));
        break;
      default:
        unreachable(it);
    }
  }

  #exchange({ pattern, source, target, rowBytes }: Exchange): void {
    exchangeRows(pattern, rowBytes, {
      replicas: this.#cores.length,
      sent: (core, i) => this.#bytes(source, core).slice(i * rowBytes, (i + 1) * rowBytes),
      receive: (core, i, row) => this.#bytes(target, core).set(row, i * rowBytes),
    });
  }

  result(): StepResult {
    const { results } = this.#executable;
    return {
      results: this.#cores.map((_, core) =>
        results.map((id) => this.#read(id, core, this.#buffer(id).shape)),
      ),
      outfeed: this.#sent,
    };
  }

  #buffer(id: number): Buffer {
    return at(this.#executable.buffers, id);
  }

  #copies({ copies }: Buffer): number {
    const { cores } = this.#executable;
    return copies === 'shared' ? 1 : copies === 'core' ? cores : Math.ceil(cores / 2);
  }

  #each(id: number, work: (copy: number) => void): void {
    for (let copy = 0; copy < this.#copies(this.#buffer(id)); copy++) work(copy);
  }

  #bytes(id: number, copy: number): Uint8Array {
    const it = this.#buffer(id);
    const start = it.offset + (it.copies === 'shared' ? 0 : copy * it.stride);
    assert(start + it.bytes <= this.#arena.length, `${it.name} lies outside of the arena`);
    return this.#arena.subarray(start, start + it.bytes);
  }

  #write(id: number, copy: number, data: Uint8Array): void {
    assert(data.length === this.#buffer(id).bytes, `${this.#buffer(id).name} takes other bytes`);
    this.#bytes(id, copy).set(data);
  }

  #read(id: number, copy: number, shape: ArrayShape): Literal {
    const data = storage(shape.type, elementCount(shape));
    bytesOf({ shape, data }).set(this.#bytes(id, copy));
    return { shape, data };
  }

  #floats(id: number, copy: number): Float32Array {
    const { bytes } = this.#buffer(id);
    return this.#read(id, copy, { type: 'f32', dims: [bytes / 4] }).data as Float32Array;
  }

  #writeFloats(id: number, copy: number, element: (i: number) => number): void {
    const data = new Float32Array(this.#buffer(id).bytes / 4).map((_, i) => element(i));
    this.#write(id, copy, new Uint8Array(data.buffer));
  }

  #loop(it: Extract<Instruction, { unit: 'vpu' }>, copy: number): void {
    const { body } = at(this.#fusedLoops, it.function);
    const args = it.sources.map((id, i) =>
      this.#read(id, copy, at(body.parameters, i).shape as ArrayShape),
    );
    const values = arrays(evaluateComputation(body, args));
    it.targets.forEach((id, i) => {
      this.#write(id, copy, bytesOf(at(values, i)));
    });
  }

  #plain(it: Extract<Instruction, { unit: 'plain' }>, copy: number): void {
    const args = it.sources.map(({ buffer, shape }) => this.#read(buffer, copy, shape));
    plainCode(it.module)(args).forEach((value, i) => {
      this.#write(at(it.targets, i), copy, bytesOf(value));
    });
  }

  #matmul(it: MatmulInstruction, copy: number): void {
    const chip = this.#buffer(it.target).copies === 'chip';
    const cores = !chip ? [copy] : this.#executable.cores === 1 ? [0] : [2 * copy, 2 * copy + 1];
    const parts = cores.map((core) => this.#coreMatmul(it, core));
    const [first, ...others] = parts;
    this.#writeFloats(it.target, copy, (i) =>
      others.reduce((sum, part) => Math.fround(sum + part[i]!), first![i]!),
    );
  }

  #coreMatmul({ matmul: p, lhs, rhs }: MatmulInstruction, core: number): Float32Array {
    const round = p.precision === 'bf16' ? roundToBf16 : (x: number): number => x;
    const left = this.#floats(lhs, core).map(round);
    const right = this.#floats(rhs, core).map(round);
    const table = (i: number): Int32Array => at(this.#executable.tables, i);
    const [rows, columns] = [table(p.rows), table(p.columns)];
    const [lhsDepth, rhsDepth] = [table(p.lhsDepth), table(p.rhsDepth)];
    assert(rows.length === p.m && columns.length === p.n, 'tables of the size of the product');
    assert(lhsDepth.length === p.k && rhsDepth.length === p.k, 'tables of the depth');
    return new Float32Array(p.batch * p.m * p.n).map((_, i) => {
      const b = Math.floor(i / (p.m * p.n));
      const row = at(table(p.lhsBatch), b) + at(rows, Math.floor(i / p.n) % p.m);
      const column = at(table(p.rhsBatch), b) + at(columns, i % p.n);
      let total = 0;
      for (let start = 0; start < p.k; start += 128) {
        let tile = 0;
        for (let k = start; k < Math.min(p.k, start + 128); k++) {
          const exact = left[row + lhsDepth[k]!]! * right[column + rhsDepth[k]!]!;
          tile = Math.fround(tile + (Math.abs(exact) < 2 ** -126 ? 0 : Math.fround(exact)));
        }
        total = Math.fround(total + tile);
      }
      return total;
    });
  }

  #random(it: Extract<Instruction, { unit: 'rng' }>, copy: number): void {
    const bits = { type: 'u32', dims: [this.#buffer(it.bits).bytes / 4] } as const;
    const state = parameter(0, { type: 'u32', dims: [4] });
    const drawn = computation('draw', [state], rngBitGenerator(state, bits));
    const given = this.#read(it.state, copy, { type: 'u32', dims: [4] });
    const [next, words] = arrays(evaluateComputation(drawn, [given]));
    this.#write(it.newState, copy, bytesOf(next!));
    this.#write(it.bits, copy, bytesOf(words!));
  }

  /**
   * Sums the bucket with index `bucket` over the chips of one Cloud TPU, in order of the chip
   * numbers.
   */
  #allReduce(bucket: number): void {
    const { buffer } = at(this.#executable.buckets, bucket);
    const chips: Float32Array[] = [];
    this.#each(buffer, (chip) => chips.push(this.#floats(buffer, chip)));
    const [first, ...others] = chips;
    this.#writeFloats(buffer, 0, (i) =>
      others.reduce((sum, chip) => Math.fround(sum + chip[i]!), first![i]!),
    );
    others.forEach((_, i) => {
      this.#writeFloats(buffer, i + 1, () => Number.NaN);
    });
  }
}

/**
 * All-reduce that a test passes to `evaluate`. It sums in the same order as `interpret`: first the
 * two cores of each chip, then the chips.
 */
export function sumByChip(values: readonly Literal[]): Literal {
  const { shape } = at(values, 0);
  const add = (a: Literal, b: Literal): Literal => ({
    shape,
    data: (a.data as Float32Array).map((x, i) => x + valueAt(b, i)),
  });
  const chips: Literal[] = [];
  for (let core = 0; core < values.length; core += 2) {
    const pair = values.slice(core, core + 2);
    chips.push(pair.length === 1 ? at(pair, 0) : add(at(pair, 0), at(pair, 1)));
  }
  return chips.reduce(add);
}

function arrays(value: Value): Literal[] {
  if (value === 'token') return [];
  return 'shape' in value ? [value] : value.flatMap(arrays);
}

function bytesOf({ data }: Literal): Uint8Array {
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}
