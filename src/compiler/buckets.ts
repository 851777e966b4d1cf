import type { AllReduce, HloInstruction } from '../hlo/instruction.ts';
import { familyOf } from '../hlo/ops.ts';
import { users } from '../hlo/traverse.ts';
import { at } from '../numerics/assert.ts';
import { type ArrayShape, arrayShape, elementCount } from '../numerics/shape.ts';
import type { StepWriter } from './lowering/step.ts';
import { copyStep, type Value } from './program.ts';

/**
 * A bucket: gradients (`members`) that one all-reduce sums together. Offsets and lengths of members
 * are in elements.
 */
export interface LoweredBucket {
  readonly storage: Value;
  readonly members: readonly {
    readonly name: string;
    readonly offset: number;
    readonly elements: number;
  }[];
}

/** What the buckets of a program depend on. */
export interface BucketOptions {
  readonly root: HloInstruction;
  /** Instructions that `root` depends on, operands first. */
  readonly order: readonly HloInstruction[];
  /** The all-reduces, in the order in which they start. */
  readonly allReduces: readonly AllReduce[];
  /** Instructions whose values differ between the cores of a Cloud TPU. */
  readonly varies: ReadonlySet<HloInstruction>;
}

/**
 * Lays out the buckets of a program's all-reduces, and adds the steps that fill, start and await
 * them. A bucket holds, for each chip, the sums of its operands over the cores of the chip.
 */
export class Buckets {
  readonly #to: Pick<StepWriter, 'push' | 'valueOf'>;
  readonly #buckets: Map<AllReduce, Bucket> = new Map();
  /**
   * For each matmul that writes its result directly into a bucket: the part of the bucket that
   * receives the result.
   */
  readonly #direct: Map<HloInstruction, Value> = new Map();
  /**
   * For each operand of an all-reduce: the parts of buckets to which the operand must still be
   * written. What is written is the sum of the operand over the cores of each chip.
   */
  readonly #expected: Map<HloInstruction, Value[]> = new Map();

  constructor(to: Pick<StepWriter, 'push' | 'valueOf'>, options: BucketOptions) {
    this.#to = to;
    const { order, root, varies } = options;
    const counts = users(root);
    for (const it of options.allReduces) {
      const bucket = layOut(it, this.#buckets.size, sumNames(it, order));
      this.#buckets.set(it, bucket);
      for (const { operand, part } of bucket.members) {
        const source = at(it.operands, operand);
        const producer = directProducer(source, counts, varies);
        if (producer !== undefined) this.#direct.set(producer, part);
        this.#expected.set(source, [...(this.#expected.get(source) ?? []), part]);
      }
    }
  }

  get lowered(): LoweredBucket[] {
    return [...this.#buckets.values()].map(({ storage, members }) => ({ storage, members }));
  }

  /**
   * Returns the part of a bucket to which the matmul `it` writes its result directly, or undefined
   * if its result goes to a value of its own.
   */
  partFor(it: HloInstruction): Value | undefined {
    return this.#direct.get(it);
  }

  /** Adds the steps that write an operand of an all-reduce to its buckets, unless it is there. */
  deliver(operand: HloInstruction): void {
    const parts = this.#expected.get(operand) ?? [];
    this.#expected.delete(operand);
    for (const part of parts) this.#sumOnChip(this.#to.valueOf(operand), part);
  }

  /** True if `deliver` has parts of buckets to write for `it`. */
  expects(it: HloInstruction): boolean {
    return this.#expected.has(it);
  }

  /** Adds the step that starts an all-reduce. Returns the sums, in the order of the operands. */
  start(it: AllReduce): readonly Value[] {
    const { number, storage, members } = this.#buckets.get(it)!;
    for (const operand of it.operands) this.deliver(operand);
    const name = storage.name;
    this.#to.push({
      reads: [storage],
      writes: [storage],
      instruction: () => ({ unit: 'all-reduce-start', name, phase: 'all-reduce', bucket: number }),
    });
    return members.toSorted((a, b) => a.operand - b.operand).map(({ sum }) => sum);
  }

  /**
   * Adds a step that waits for the all-reduce of a bucket. Later steps may read the sums of the
   * bucket's members.
   */
  finish(it: AllReduce): void {
    const { number, storage, members } = this.#buckets.get(it)!;
    const name = storage.name;
    this.#to.push({
      reads: [storage],
      writes: members.map(({ sum }) => sum),
      instruction: () => ({ unit: 'all-reduce-done', name, phase: 'all-reduce', bucket: number }),
    });
  }

  #sumOnChip(value: Value, part: Value): void {
    if (value === part) return;
    const source = value.copies === 'core' ? value : this.#spread(value);
    this.#to.push({
      reads: [source],
      writes: [part],
      instruction: (buffer) => ({
        unit: 'chip-sum',
        name: part.name,
        phase: 'compute',
        source: buffer(source),
        target: buffer(part),
      }),
    });
  }

  /**
   * Adds a step that copies a value that all cores share, once for each core. Returns the value
   * with one copy for each core.
   */
  #spread(value: Value): Value {
    const { name, shape } = value;
    const target: Value = { name, kind: 'temporary', shape, copies: 'core' };
    this.#to.push(copyStep(value, target, 'compute'));
    return target;
  }
}

/**
 * One operand of an all-reduce, as a part of its bucket. `operand` is the index of the operand. The
 * part begins at element `offset` of the bucket and has `elements` elements.
 */
interface Member {
  readonly name: string;
  readonly offset: number;
  readonly elements: number;
  readonly operand: number;
  /**
   * The value of the operand before the all-reduce, with one copy for each chip. The value is
   * stored in the bucket.
   */
  readonly part: Value;
  /** The sum over all chips of the slice, after the all-reduce, in the same memory as `part`. */
  readonly sum: Value;
}

interface Bucket {
  readonly number: number;
  readonly storage: Value;
  readonly members: readonly Member[];
}

/** How many f32 elements 64 bytes hold. Buffers in the arena are aligned to 64 bytes. */
const alignedElements = 16;

/**
 * Lays out the bucket of an all-reduce: gives each operand a part of the bucket. Operands whose
 * size is a multiple of 64 bytes come first, so that their parts start at multiples of 64 bytes.
 */
function layOut(it: AllReduce, number: number, names: readonly string[]): Bucket {
  const sizes = it.operands.map((x) => elementCount(x.shape as ArrayShape));
  const isRagged = (i: number): number => +(at(sizes, i) % alignedElements !== 0);
  const order = sizes.map((_, i) => i).sort((a, b) => isRagged(a) - isRagged(b) || a - b);
  const elements = sizes.reduce((sum, size) => sum + size, 0);
  const storage: Value = {
    name: `bucket ${number}`,
    kind: 'gradient',
    shape: arrayShape('f32', [elements]),
    copies: 'chip',
  };
  const members: Member[] = [];
  let offset = 0;
  for (const i of order) {
    const name = at(names, i);
    const shape = at(it.operands, i).shape as ArrayShape;
    const within = { base: storage, offset: 4 * offset };
    const part: Value = { name, kind: 'gradient', shape, copies: 'chip', within };
    const sum: Value = { ...part, copies: 'shared' };
    members.push({ name, offset, elements: at(sizes, i), operand: i, part, sum });
    offset += at(sizes, i);
  }
  return { number, storage, members };
}

/**
 * Returns names for the sums of an all-reduce, one for each operand, in the order of the operands.
 */
function sumNames(it: AllReduce, order: readonly HloInstruction[]): string[] {
  const names = it.operands.map((operand) => operand.name ?? it.name ?? 'all-reduce');
  if (it.operands.length === 1) return [it.name ?? at(names, 0)];
  for (const user of order) {
    if (user.opcode !== 'get-tuple-element' || user.operands[0] !== it) continue;
    if (user.name !== undefined) names[user.index] = user.name;
  }
  return names;
}

/**
 * Returns the matmul that computes `operand`, directly or through reshapes, if this matmul can
 * write its result straight into the bucket of the all-reduce; otherwise returns undefined. The
 * matmul can do so under two conditions: both operands of the matmul differ between cores, and only
 * one instruction uses its result.
 */
function directProducer(
  operand: HloInstruction,
  counts: ReadonlyMap<HloInstruction, number>,
  varies: ReadonlySet<HloInstruction>,
): HloInstruction | undefined {
  let it = operand;
  while (it.opcode === 'reshape' && counts.get(it) === 1) it = at(it.operands, 0);
  const isMatmul = familyOf(it) === 'contraction';
  const perCore = it.operands.every((x) => varies.has(x));
  return isMatmul && perCore && counts.get(it) === 1 ? it : undefined;
}
