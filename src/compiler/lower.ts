import {
  type AllReduce,
  binaryOpcodes,
  type Constant,
  type Convolution,
  type Dot,
  type Fusion,
  type GetTupleElement,
  type HloInstruction,
  type HloModule,
  type Infeed,
  type Outfeed,
  type Parameter,
  type RngBitGenerator,
  unaryOpcodes,
} from '../hlo/instruction.ts';
import { postOrder, users } from '../hlo/traverse.ts';
import type { Copies, Executable, Phase } from '../isa/executable.ts';
import { assert, at } from '../numerics/assert.ts';
import { PodError } from '../numerics/error.ts';
import { bytesOf } from '../numerics/literal.ts';
import {
  type ArrayShape,
  arrayShape,
  elementCount,
  isArray,
  type Shape,
} from '../numerics/shape.ts';
import type { FusedLoop } from './codegen/fused-loop.ts';
import { copyStep, type Program, type Step, type Value } from './program.ts';
import type { Scheduled } from './schedule.ts';
import { variesByCore } from './sharing.ts';
import { structureOf } from './structure.ts';
import { convolutionTables, dotTables, type MatmulTables, TableSet } from './tables.ts';

/**
 * Returns the indices of those parameters of a fused loop's body whose memory the output `target`
 * may overwrite.
 */
export type InPlace = (body: Fusion['body'], target: number) => readonly number[];

/**
 * A program whose values have no addresses yet, with the fused loops, offset tables and buckets
 * that the program refers to.
 */
export interface Lowered {
  readonly program: Program;
  readonly fusedLoops: readonly FusedLoop[];
  readonly tables: readonly Int32Array[];
  readonly infeed: readonly ArrayShape[];
  readonly outfeed: Executable['outfeed'];
  readonly buckets: readonly LoweredBucket[];
}

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

/**
 * Turns scheduled and fused HLO into steps that read and write values. Tuples, tuple elements and
 * reshapes become no steps, because they only give other names to values. A matmul writes its
 * result directly into the bucket of an all-reduce if its operands differ between cores and only
 * the all-reduce uses the result.
 */
export function lower(
  module: HloModule,
  scheduled: readonly Scheduled[],
  inPlace: InPlace,
): Lowered {
  const lowering = new Lowering(module, scheduled, inPlace);
  for (const { action, it } of scheduled) {
    if (action === 'done') lowering.finish(it as AllReduce);
    else lowering.run(it);
  }
  return lowering.result();
}

class Lowering {
  readonly #module: HloModule;
  readonly #inPlace: InPlace;
  readonly #varies: ReadonlySet<HloInstruction>;
  readonly #elements: readonly GetTupleElement[];
  readonly #updates: ReadonlySet<HloInstruction>;
  readonly #values: Map<HloInstruction, readonly Value[]> = new Map();
  readonly #steps: Step[] = [];
  readonly #parameters: readonly Value[];
  readonly #constants: { value: Value; data: Uint8Array }[] = [];
  readonly #fusedLoops: FusedLoop[] = [];
  readonly #functions: Map<string, number> = new Map();
  readonly #tables: TableSet = new TableSet();
  readonly #infeed: ArrayShape[] = [];
  readonly #outfeed: { shape: ArrayShape; copies: Copies }[] = [];
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

  constructor(module: HloModule, scheduled: readonly Scheduled[], inPlace: InPlace) {
    const order = postOrder(module.entry.root);
    this.#module = module;
    this.#inPlace = inPlace;
    this.#parameters = module.entry.parameters.map(parameterValue);
    this.#varies = variesByCore(order);
    this.#elements = order.filter((it) => it.opcode === 'get-tuple-element');
    this.#updates = afterSums(order);
    const counts = users(module.entry.root);
    for (const { action, it } of scheduled) {
      if (action === 'run' && it.opcode === 'all-reduce') this.#layOutBucket(it, counts);
    }
  }

  /**
   * Adds the steps of one instruction. If the result is an operand of an all-reduce, also adds the
   * step that writes the result to the bucket, so that the memory of the result is free afterwards.
   * An operand that no step computes, such as a parameter, is written to the bucket only when the
   * all-reduce starts.
   */
  run(it: HloInstruction): void {
    this.#values.set(it, this.#lowered(it));
    if (this.#expected.has(it) && isMadeHere(this.#valueOf(it))) this.#deliver(it);
  }

  /** Adds the steps of an instruction and returns the values that it computes or renames. */
  #lowered(it: HloInstruction): readonly Value[] {
    switch (it.opcode) {
      case 'parameter':
        return [at(this.#parameters, it.index)];
      case 'constant':
        return this.#constant(it);
      case 'tuple':
        return it.operands.flatMap((x) => this.#valuesOf(x));
      case 'get-tuple-element':
        return this.#element(at(it.operands, 0), it.index);
      case 'reshape':
        return this.#valuesOf(at(it.operands, 0));
      case 'after-all':
        return [];
      case 'infeed':
        return this.#takeIn(it);
      case 'outfeed':
        return this.#sendOut(it);
      case 'dot':
        return this.#matmul(it, dotTables(it));
      case 'convolution':
        return this.#matmul(it, convolutionTables(it));
      case 'fusion':
        return this.#fusedLoop(it);
      case 'rng-bit-generator':
        return this.#random(it);
      case 'all-reduce':
        return this.#start(it);
      default:
        return assert(false, `${it.opcode} is not in a loop`) as never;
    }
  }

  /**
   * Adds a step that waits for the all-reduce of a bucket. Later steps may read the sums of the
   * bucket's members.
   */
  finish(it: AllReduce): void {
    const { number, storage, members } = this.#buckets.get(it)!;
    const sums = members.map(({ sum }) => sum);
    const name = `bucket ${number}`;
    this.#push({
      reads: [storage],
      writes: sums,
      instruction: () => ({ unit: 'all-reduce-done', name, phase: 'all-reduce', bucket: number }),
    });
  }

  result(): Lowered {
    const { root } = this.#module.entry;
    const elements = root.opcode === 'tuple' ? root.operands : [root];
    const perElement = elements.map((x) => this.#valuesOf(x));
    const starts = perElement.map((_, i) => perElement.slice(0, i).flat().length);
    return {
      program: {
        steps: this.#steps,
        parameters: this.#parameters,
        constants: this.#constants,
        results: perElement.flat(),
        resultShapes: leaves(root.shape),
        aliases: this.#module.aliases.map(({ output, parameter }) => ({
          result: at(starts, output),
          parameter,
        })),
      },
      fusedLoops: this.#fusedLoops,
      tables: this.#tables.tables,
      infeed: this.#infeed,
      outfeed: this.#outfeed,
      buckets: [...this.#buckets.values()].map(({ storage, members }) => ({ storage, members })),
    };
  }

  // ------------------------------------------------------------------------------------- values

  #constant(it: Constant): readonly Value[] {
    const { shape } = it.value;
    const value = this.#fresh(it, shape, 'constant', 'shared');
    this.#constants.push({ value, data: bytesOf(it.value).slice() });
    return [value];
  }

  #element(source: HloInstruction, index: number): readonly Value[] {
    const { shape } = source;
    assert(shape.type === 'tuple', `${source.opcode} has elements`);
    const before = shape.elements.slice(0, index).flatMap(leaves).length;
    const count = leaves(at(shape.elements, index)).length;
    return this.#valuesOf(source).slice(before, before + count);
  }

  #valuesOf(it: HloInstruction): readonly Value[] {
    const values = this.#values.get(it);
    assert(values !== undefined, `${it.opcode} ${it.name ?? ''} runs before its users`);
    return values;
  }

  #valueOf(it: HloInstruction): Value {
    return at(this.#valuesOf(it), 0);
  }

  #fresh(
    it: HloInstruction,
    shape: ArrayShape,
    kind: Value['kind'] = 'temporary',
    copies: Copies = this.#varies.has(it) ? 'core' : 'shared',
  ): Value {
    return { name: nameOf(it), kind, shape, copies };
  }

  #phase(it: HloInstruction): Phase {
    return this.#updates.has(it) ? 'update' : 'compute';
  }

  #push(step: Step): void {
    this.#steps.push(step);
  }

  // ----------------------------------------------------------------------------- instructions

  #takeIn(it: Infeed): readonly Value[] {
    const values = leaves(it.shape).map((shape, i) => ({
      ...this.#fresh(it, shape, 'infeed', 'core'),
      name: `${nameOf(it)}/${i}`,
    }));
    for (const target of values) {
      const element = this.#infeed.push(target.shape) - 1;
      this.#push({
        reads: [],
        writes: [target],
        instruction: (buffer) => ({
          unit: 'infeed',
          name: target.name,
          phase: 'infeed',
          element,
          target: buffer(target),
        }),
      });
    }
    return values;
  }

  #sendOut(it: Outfeed): readonly Value[] {
    const data = at(it.operands, 0);
    const shapes = leaves(data.shape);
    this.#valuesOf(data).forEach((source, i) => {
      const element = this.#outfeed.push({ shape: at(shapes, i), copies: source.copies }) - 1;
      this.#push({
        reads: [source],
        writes: [],
        instruction: (buffer) => ({
          unit: 'outfeed',
          name: `${nameOf(it)}/${i}`,
          phase: 'outfeed',
          element,
          source: buffer(source),
        }),
      });
    });
    return [];
  }

  #matmul(it: Dot | Convolution, tables: MatmulTables): readonly Value[] {
    const operands = it.operands.map((x) => this.#valueOf(x));
    const [lhs, rhs] = tables.swapped
      ? [at(operands, 1), at(operands, 0)]
      : [at(operands, 0), at(operands, 1)];
    const target = this.#direct.get(it) ?? this.#fresh(it, it.shape);
    const numbered = (table: Int32Array): number => this.#tables.indexOf(table);
    const matmul = {
      batch: tables.lhsBatch.length,
      m: tables.rows.length,
      n: tables.columns.length,
      k: tables.lhsDepth.length,
      lhsBatch: numbered(tables.lhsBatch),
      rhsBatch: numbered(tables.rhsBatch),
      rows: numbered(tables.rows),
      lhsDepth: numbered(tables.lhsDepth),
      rhsDepth: numbered(tables.rhsDepth),
      columns: numbered(tables.columns),
      precision: it.precision === 'highest' ? 'f32' : 'bf16',
    } as const;
    const phase = this.#phase(it);
    if (elementCount(target.shape) === 0) return [target];
    this.#push({
      reads: [lhs, rhs],
      writes: [target],
      instruction: (buffer) => ({
        unit: 'mxu',
        name: nameOf(it),
        phase,
        matmul,
        lhs: buffer(lhs),
        rhs: buffer(rhs),
        target: buffer(target),
      }),
    });
    return [target];
  }

  #fusedLoop(it: Fusion): readonly Value[] {
    const sources = it.operands.map((x) => this.#valueOf(x));
    const targets = leaves(it.shape).map((shape, i, all) => ({
      ...this.#fresh(it, shape),
      name: all.length === 1 ? nameOf(it) : `${nameOf(it)}/${i}`,
    }));
    if (targets.every(({ shape }) => elementCount(shape) === 0)) return targets;
    const number = this.#functionOf(it);
    const flops = flopsOf(it);
    const phase = this.#phase(it);
    this.#push({
      reads: sources,
      writes: targets,
      inPlace: targets.map((_, i) => this.#inPlace(it.body, i)),
      instruction: (buffer) => ({
        unit: 'vpu',
        name: nameOf(it),
        phase,
        function: number,
        sources: sources.map(buffer),
        targets: targets.map(buffer),
        flops,
      }),
    });
    return targets;
  }

  /**
   * Returns the index of the generated function for a fused loop. Fused loops with equal bodies
   * share one function.
   */
  #functionOf(it: Fusion): number {
    const structure = structureOf(it.body);
    const known = this.#functions.get(structure);
    if (known !== undefined) return known;
    const number = this.#fusedLoops.push({ name: nameOf(it), body: it.body }) - 1;
    this.#functions.set(structure, number);
    return number;
  }

  #random(it: RngBitGenerator): readonly Value[] {
    const state = this.#valueOf(at(it.operands, 0));
    const [newState, bits] = leaves(it.shape).map((shape) => this.#fresh(it, shape));
    assert(newState !== undefined && bits !== undefined, 'a generator makes a state and bits');
    const phase = this.#phase(it);
    this.#push({
      reads: [state],
      writes: [newState, bits],
      inPlace: [[0], []],
      instruction: (buffer) => ({
        unit: 'rng',
        name: nameOf(it),
        phase,
        state: buffer(state),
        newState: buffer(newState),
        bits: buffer(bits),
      }),
    });
    return [newState, bits];
  }

  // --------------------------------------------------------------------------------- all-reduce

  /**
   * Lays out the bucket of an all-reduce: gives each operand a part of the bucket. Operands whose
   * size is a multiple of 64 bytes come first, so that their parts start at multiples of 64 bytes.
   */
  #layOutBucket(it: AllReduce, counts: ReadonlyMap<HloInstruction, number>): void {
    const sizes = it.operands.map((x) => elementCount(x.shape as ArrayShape));
    const isWhole = (i: number): boolean => at(sizes, i) % alignedElements === 0;
    const order = sizes.map((_, i) => i).sort((a, b) => +isWhole(b) - +isWhole(a) || a - b);
    const elements = sizes.reduce((sum, size) => sum + size, 0);
    const number = this.#buckets.size;
    const storage: Value = {
      name: `bucket ${number}`,
      kind: 'gradient',
      shape: arrayShape('f32', [elements]),
      copies: 'chip',
    };
    const names = this.#sumNames(it);
    const members: Member[] = [];
    let offset = 0;
    for (const i of order) {
      const operand = at(it.operands, i);
      const name = at(names, i);
      const within = { base: storage, offset: 4 * offset };
      const shape = operand.shape as ArrayShape;
      const part: Value = { name, kind: 'gradient', shape, copies: 'chip', within };
      const sum: Value = { ...part, copies: 'shared' };
      members.push({ name, offset, elements: at(sizes, i), operand: i, part, sum });
      const producer = this.#directProducer(operand, counts);
      if (producer !== undefined) this.#direct.set(producer, part);
      offset += at(sizes, i);
    }
    this.#buckets.set(it, { number, storage, members });
    for (const { operand, part } of members) this.#expect(at(it.operands, operand), part);
  }

  /**
   * Returns names for the sums of an all-reduce, one for each operand, in the order of the
   * operands.
   */
  #sumNames(it: AllReduce): string[] {
    const names = it.operands.map((operand) => operand.name ?? it.name ?? 'all-reduce');
    if (it.operands.length === 1) return [it.name ?? at(names, 0)];
    for (const { operands, index, name } of this.#elements) {
      if (operands[0] === it && name !== undefined) names[index] = name;
    }
    return names;
  }

  /**
   * Returns the matmul that computes `operand`, directly or through reshapes, if this matmul can
   * write its result straight into the bucket of the all-reduce; otherwise returns undefined. The
   * matmul can do so under two conditions: both operands of the matmul differ between cores, and
   * only one instruction uses its result.
   */
  #directProducer(
    operand: HloInstruction,
    counts: ReadonlyMap<HloInstruction, number>,
  ): HloInstruction | undefined {
    let it = operand;
    while (it.opcode === 'reshape' && counts.get(it) === 1) it = at(it.operands, 0);
    const isMatmul = it.opcode === 'dot' || it.opcode === 'convolution';
    const perCore = it.operands.every((x) => this.#varies.has(x));
    return isMatmul && perCore && counts.get(it) === 1 ? it : undefined;
  }

  /**
   * Records that the sum of `operand` over the cores of each chip must still be written to `part`,
   * a part of a bucket.
   */
  #expect(operand: HloInstruction, part: Value): void {
    this.#expected.set(operand, [...(this.#expected.get(operand) ?? []), part]);
  }

  #start(it: AllReduce): readonly Value[] {
    const { number, storage, members } = this.#buckets.get(it)!;
    for (const operand of it.operands) this.#deliver(operand);
    const name = `bucket ${number}`;
    this.#push({
      reads: [storage],
      writes: [storage],
      instruction: () => ({ unit: 'all-reduce-start', name, phase: 'all-reduce', bucket: number }),
    });
    return members.toSorted((a, b) => a.operand - b.operand).map(({ sum }) => sum);
  }

  #deliver(operand: HloInstruction): void {
    const parts = this.#expected.get(operand) ?? [];
    this.#expected.delete(operand);
    for (const part of parts) this.#sumOnChip(this.#valueOf(operand), part);
  }

  #sumOnChip(value: Value, part: Value): void {
    if (value === part) return;
    const source = value.copies === 'core' ? value : this.#spread(value);
    this.#push({
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
    this.#push(copyStep(value, target, 'compute'));
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

function parameterValue(it: Parameter): Value {
  const name = it.name ?? `parameter ${it.index}`;
  if (isArray(it.shape)) return { name, kind: 'parameter', shape: it.shape, copies: 'shared' };
  const message = `parameter ${name}: expected an array, found a ${it.shape.type}`;
  throw new PodError('unsupported-program', message);
}

/**
 * True for a value that a step computes; false for a parameter, a constant or the sum of an
 * all-reduce.
 */
function isMadeHere({ kind, within, copies }: Value): boolean {
  const sum = within !== undefined && copies === 'shared';
  return !sum && kind !== 'parameter' && kind !== 'constant';
}

/**
 * Returns the instructions of the update phase: all instructions except the all-reduces and those
 * that an all-reduce depends on. A program without all-reduces has no update phase.
 */
function afterSums(order: readonly HloInstruction[]): Set<HloInstruction> {
  const sums = order.filter(({ opcode }) => opcode === 'all-reduce');
  const before = new Set(postOrder(sums));
  return new Set(sums.length === 0 ? [] : order.filter((it) => !before.has(it)));
}

/**
 * Returns the arrays in a shape. For a tuple, returns the arrays of its elements, depth first. A
 * token has no arrays.
 */
function leaves(shape: Shape): ArrayShape[] {
  if (shape.type === 'tuple') return shape.elements.flatMap(leaves);
  return isArray(shape) ? [shape] : [];
}

function nameOf(it: HloInstruction): string {
  return it.name ?? it.opcode;
}

/**
 * Returns how many operations a fused loop executes on one core, for the cost model. An arithmetic
 * instruction counts one operation for each element of its result. A reduction counts one operation
 * for each element of its input.
 */
function flopsOf({ body }: Fusion): number {
  let flops = 0;
  for (const it of postOrder(body.root)) {
    const counted = reductions.has(it.opcode) ? at(it.operands, 0) : it;
    const { shape } = counted;
    if (arithmetic.has(it.opcode) && isArray(shape)) flops += elementCount(shape);
  }
  return flops;
}

const reductions: ReadonlySet<string> = new Set(['reduce', 'reduce-window', 'select-and-scatter']);
const arithmetic: ReadonlySet<string> = new Set([
  ...unaryOpcodes,
  ...binaryOpcodes,
  ...reductions,
  'compare',
  'select',
  'clamp',
]);
