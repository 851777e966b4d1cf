import { setAfter } from '../../src/chip/core.ts';
import { assert, at } from '../../src/numerics/assert.ts';
import type { Program } from '../../src/pod/pod.ts';
import type { Layout } from './layout.ts';

/**
 * Says which parameters are meant: those of program `program` on Cloud TPU `tpu` after `steps`
 * steps. If a program keeps its previous parameters, its memory has two sets of parameters. The
 * first set holds the parameters after an even number of steps, the second set those after an odd
 * number.
 */
export interface Place {
  readonly tpu: number;
  readonly program: number;
  readonly steps: number;
}

/**
 * Access to the parameters of all programs on all Cloud TPUs, in the shared memory. Use it only
 * while no Cloud TPU runs a step.
 */
export class Parameters {
  readonly #bytes: Uint8Array;
  readonly #layout: Layout;
  readonly #programs: readonly Program[];

  constructor(memory: WebAssembly.Memory, layout: Layout, programs: readonly Program[]) {
    this.#bytes = new Uint8Array(memory.buffer);
    this.#layout = layout;
    this.#programs = programs;
  }

  /** Returns a copy of each parameter. */
  read(place: Place): Uint8Array[] {
    return this.#ranges(place).map(({ start, end }) => this.#bytes.slice(start, end));
  }

  /** Returns a view of each parameter in the shared memory, without copying. */
  views(place: Place): Uint8Array[] {
    return this.#ranges(place).map(({ start, end }) => this.#bytes.subarray(start, end));
  }

  /**
   * Overwrites the first `values.length` parameters with `values`. All other parameters are
   * unchanged.
   */
  write(place: Place, values: readonly Uint8Array[]): void {
    const ranges = this.#ranges(place);
    values.forEach((value, index) => {
      const { start, end, name } = at(ranges, index);
      assert(value.length === end - start, `${name}: ${value.length} bytes, not ${end - start}`);
      this.#bytes.set(value, start);
    });
  }

  /** Sets all parameters to zero, the value that they have in newly allocated memory. */
  clear(place: Place): void {
    for (const { start, end } of this.#ranges(place)) this.#bytes.fill(0, start, end);
  }

  /**
   * Copies the parameters of program `place.program` from Cloud TPU `from` to Cloud TPU
   * `place.tpu`.
   */
  copy(place: Place, from: number): void {
    const sources = this.#ranges({ ...place, tpu: from });
    this.#ranges(place).forEach(({ start }, index) => {
      const source = at(sources, index);
      this.#bytes.copyWithin(start, source.start, source.end);
    });
  }

  /**
   * Returns the byte range of each parameter. If the program has memory for two sets of parameters,
   * the ranges belong to the set that holds the parameters after `steps` steps.
   */
  #ranges({ tpu, program, steps }: Place): Range[] {
    const { executable } = at(this.#programs, program);
    const { parameters, next, buffers } = executable;
    const ids = setAfter(steps) === 0 ? parameters : (next ?? parameters);
    const arena = at(at(this.#layout.tpus, tpu).arenas, program);
    return ids.map((id) => {
      const { offset, bytes, name } = at(buffers, id);
      return { start: arena + offset, end: arena + offset + bytes, name };
    });
  }
}

interface Range {
  readonly start: number;
  readonly end: number;
  readonly name: string;
}
