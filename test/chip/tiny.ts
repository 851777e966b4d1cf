import type {
  BufferId,
  Copies,
  Buffer as DeviceBuffer,
  Executable,
  Instruction,
  Matmul,
} from '../../src/isa/executable.ts';
import { type ArrayShape, byteCount, elementCount, shapeText } from '../../src/numerics/shape.ts';

/** Builds an executable by hand, for tests of the chip without the compiler. */
export class Tiny {
  readonly cores: number;
  readonly #buffers: DeviceBuffer[] = [];
  readonly #tables: Int32Array[] = [];
  readonly #instructions: Instruction[] = [];
  readonly #constants: { buffer: BufferId; data: Uint8Array }[] = [];
  readonly #parameters: BufferId[] = [];
  readonly #infeed: ArrayShape[] = [];
  readonly #outfeed: { shape: ArrayShape; copies: Copies }[] = [];
  readonly #next: Map<BufferId, BufferId> = new Map();
  readonly #buckets: Executable['buckets'][number][] = [];
  #end = 0;

  constructor(cores: number) {
    this.cores = cores;
  }

  buffer(shape: ArrayShape, copies: Copies, kind: DeviceBuffer['kind'] = 'temporary'): BufferId {
    const bytes = byteCount(shape);
    const count =
      copies === 'shared' ? 1 : copies === 'core' ? this.cores : Math.ceil(this.cores / 2);
    const offset = this.#end;
    const stride = copies === 'shared' ? 0 : bytes;
    this.#end = Math.ceil((offset + bytes * count) / 64) * 64;
    const name = `${kind}${this.#buffers.length}`;
    this.#buffers.push({
      name,
      kind,
      shape,
      copies,
      offset,
      stride,
      bytes,
      hbmOffset: 0,
      hbmBytes: bytes,
    });
    return this.#buffers.length - 1;
  }

  parameter(shape: ArrayShape): BufferId {
    const id = this.buffer(shape, 'shared', 'parameter');
    this.#parameters.push(id);
    return id;
  }

  /**
   * Adds a buffer into which the step writes the new value of a parameter. For a parameter without
   * such a buffer, the step overwrites the old value in place.
   */
  next(parameter: BufferId): BufferId {
    const id = this.buffer(this.#buffers[parameter]!.shape, 'shared', 'parameter');
    this.#next.set(parameter, id);
    return id;
  }

  constant(shape: ArrayShape, data: ArrayLike<number>): BufferId {
    const id = this.buffer(shape, 'shared', 'constant');
    const values = Float32Array.from(data);
    this.#constants.push({ buffer: id, data: new Uint8Array(values.buffer) });
    return id;
  }

  infeed(shape: ArrayShape): BufferId {
    const target = this.buffer(shape, 'core', 'infeed');
    const element = this.#infeed.push(shape) - 1;
    this.add({ unit: 'infeed', name: `infeed${element}`, phase: 'infeed', element, target });
    return target;
  }

  outfeed(source: BufferId): void {
    const { shape, copies } = this.#buffers[source]!;
    const element = this.#outfeed.push({ shape, copies }) - 1;
    this.add({ unit: 'outfeed', name: `outfeed${element}`, phase: 'outfeed', element, source });
  }

  table(values: ArrayLike<number>): number {
    return this.#tables.push(Int32Array.from(values)) - 1;
  }

  /** Adds a matmul: target[b, m, n] = lhs[b, m, k] · rhs[b, k, n], all row-major. */
  matmul(
    lhs: BufferId,
    rhs: BufferId,
    target: BufferId,
    size: Size,
    precision: Matmul['precision'],
    phase: 'compute' | 'update' = 'compute',
  ): void {
    const { batch, m, n, k } = size;
    const affine = (count: number, step: number): number =>
      this.table(Array.from({ length: count }, (_, i) => i * step));
    const matmul: Matmul = {
      ...{ batch, m, n, k, precision },
      lhsBatch: affine(batch, m * k),
      rhsBatch: affine(batch, k * n),
      rows: affine(m, k),
      lhsDepth: affine(k, 1),
      rhsDepth: affine(k, n),
      columns: affine(n, 1),
    };
    this.add({ unit: 'mxu', name: 'matmul', phase, matmul, lhs, rhs, target });
  }

  copy(source: BufferId, target: BufferId): void {
    const { bytes } = this.#buffers[target]!;
    this.add({
      unit: 'copy',
      name: 'copy',
      phase: 'update',
      source,
      sourceOffset: 0,
      target,
      targetOffset: 0,
      bytes,
    });
  }

  /**
   * Adds an all-reduce of `buffer`, which has a copy for each chip. Returns a buffer with the sum. The sum has a single copy, which all chips of the Cloud TPU share.
   */
  allReduce(buffer: BufferId): BufferId {
    const { shape, offset, bytes } = this.#buffers[buffer]!;
    const elements = elementCount(shape);
    const members = [{ name: 'gradient', offset: 0, elements }];
    const bucket = this.#buckets.push({ buffer, elements, members }) - 1;
    this.add({ unit: 'all-reduce-start', name: 'all-reduce', phase: 'all-reduce', bucket });
    this.add({ unit: 'all-reduce-done', name: 'all-reduce', phase: 'all-reduce', bucket });
    const sum: DeviceBuffer = {
      ...{ name: `sum of ${shapeText(shape)}`, kind: 'gradient', shape, copies: 'shared' },
      ...{ offset, stride: 0, bytes, hbmOffset: 0, hbmBytes: bytes },
    };
    return this.#buffers.push(sum) - 1;
  }

  add(instruction: Instruction): void {
    this.#instructions.push(instruction);
  }

  build(): Executable {
    const next = this.#parameters.map((id) => this.#next.get(id) ?? id);
    return {
      name: 'tiny',
      cores: this.cores,
      buffers: this.#buffers,
      instructions: this.#instructions,
      tables: this.#tables,
      code: new Uint8Array(),
      constants: this.#constants,
      parameters: this.#parameters,
      ...(this.#next.size > 0 && { next }),
      results: next,
      infeed: this.#infeed,
      outfeed: this.#outfeed,
      buckets: this.#buckets,
      exchanges: [],
      hbm: {
        limit: 0,
        peak: 0,
        byKind: { program: 0, parameter: 0, constant: 0, infeed: 0, gradient: 0, temporary: 0 },
        largest: [],
      },
      arenaBytes: this.#end,
    };
  }
}

export interface Size {
  readonly batch: number;
  readonly m: number;
  readonly n: number;
  readonly k: number;
}
