import type {
  AllReduce,
  Constant,
  Fusion,
  HloComputation,
  HloInstruction,
  HloModule,
  Parameter,
  ReplicaId,
} from '../hlo/instruction.ts';
import { postOrder } from '../hlo/traverse.ts';
import type { ConstantData, Copies, Executable, Phase } from '../isa/executable.ts';
import { assert, at } from '../numerics/assert.ts';
import { PodError } from '../numerics/error.ts';
import { bytesOf } from '../numerics/literal.ts';
import { type ArrayShape, isArray } from '../numerics/shape.ts';
import { Buckets, type LoweredBucket } from './buckets.ts';
import type { FusedLoop } from './codegen/fused-loop.ts';
import { moduleWith, plainCode } from './lowering/plain.ts';
import {
  type InPlace,
  type LoweredExchange,
  leaves,
  nameOf,
  type StepWriter,
} from './lowering/step.ts';
import { loweringOf } from './lowering/table.ts';
import type { Program, Step, Value } from './program.ts';
import type { Scheduled } from './schedule.ts';
import { variesByCore } from './sharing.ts';
import { structureOf } from './structure.ts';
import { TableSet } from './tables.ts';

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
  readonly exchanges: readonly LoweredExchange[];
}

/**
 * Turns scheduled and fused HLO into steps that read and write values. The table of lowerings
 * (lowering/table.ts) says how each opcode is turned into steps. Tuples, tuple elements and reshapes
 * become no steps, because they only give other names to values. A matmul writes its result
 * directly into the bucket of an all-reduce if its operands differ between cores and only the
 * all-reduce uses the result.
 */
export function lower(
  module: HloModule,
  scheduled: readonly Scheduled[],
  codegen: LoopChecks,
): Lowered {
  const lowering = new Lowering(module, scheduled, codegen);
  for (const { action, it } of scheduled) {
    if (action === 'done') lowering.finish(it as AllReduce);
    else lowering.run(it);
  }
  return lowering.result();
}

/** What the generator of fused loops can say about a loop before it generates the loop. */
export interface LoopChecks {
  /** Returns true if `body` can be one fused loop, otherwise the reason why not. */
  readonly supports: (body: HloComputation) => true | string;
  readonly inPlace: InPlace;
}

class Lowering implements StepWriter {
  readonly inPlace: InPlace;
  readonly #codegen: LoopChecks;
  readonly #module: HloModule;
  readonly #varies: ReadonlySet<HloInstruction>;
  readonly #updates: ReadonlySet<HloInstruction>;
  readonly #values: Map<HloInstruction, readonly Value[]> = new Map();
  readonly #steps: Step[] = [];
  readonly #parameters: readonly Value[];
  readonly #constants: { value: Value; data: ConstantData }[] = [];
  readonly #fusedLoops: FusedLoop[] = [];
  readonly #functions: Map<string, number> = new Map();
  readonly #tables: TableSet = new TableSet();
  readonly #infeed: ArrayShape[] = [];
  readonly #outfeed: { shape: ArrayShape; copies: Copies }[] = [];
  readonly #buckets: Buckets;
  readonly #exchanges: LoweredExchange[] = [];

  constructor(module: HloModule, scheduled: readonly Scheduled[], codegen: LoopChecks) {
    const { root, parameters } = module.entry;
    const order = postOrder(root);
    this.inPlace = codegen.inPlace;
    this.#codegen = codegen;
    this.#module = module;
    this.#parameters = parameters.map(parameterValue);
    this.#varies = variesByCore(order);
    this.#updates = afterSums(order);
    const allReduces = scheduled.flatMap(({ action, it }) =>
      action === 'run' && it.opcode === 'all-reduce' ? [it] : [],
    );
    this.#buckets = new Buckets(this, { root, order, allReduces, varies: this.#varies });
  }

  /**
   * Adds the steps of one instruction. If the result is an operand of an all-reduce, also adds the
   * step that writes the result to the bucket, so that the memory of the result is free afterwards.
   * An operand that no step computes, such as a parameter, is written to the bucket only when the
   * all-reduce starts.
   */
  run(it: HloInstruction): void {
    this.#values.set(it, this.#lowered(it));
    if (this.#buckets.expects(it) && isMadeHere(this.valueOf(it))) this.#buckets.deliver(it);
  }

  /**
   * Adds a step that waits for the all-reduce of a bucket. Later steps may read the sums of the
   * bucket's members.
   */
  finish(it: AllReduce): void {
    this.#buckets.finish(it);
  }

  /** Adds the steps of an instruction, in plain code if nothing faster can compute it. */
  #lowered(it: HloInstruction): readonly Value[] {
    const { unit, name, refusal, plain } = loweringOf(it);
    const fast = unit ?? name;
    const refused = refusal?.(it as never);
    if (fast !== undefined && refused === undefined) return fast(it as never, this);
    const reason = plain ?? refused ?? this.#codegen.supports(moduleWith(it).entry);
    assert(reason !== true, `${it.opcode} stands outside of the loop that can compute it`);
    return plainCode(it, reason, this);
  }

  result(): Lowered {
    const { root } = this.#module.entry;
    const elements = root.opcode === 'tuple' ? root.operands : [root];
    const perElement = elements.map((x) => this.valuesOf(x));
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
      buckets: this.#buckets.lowered,
      exchanges: this.#exchanges,
    };
  }

  // ------------------------------------------------- what the table of lowerings asks (StepWriter)

  valuesOf(it: HloInstruction): readonly Value[] {
    const values = this.#values.get(it);
    assert(values !== undefined, `${it.opcode} ${it.name ?? ''} runs before its users`);
    return values;
  }

  valueOf(it: HloInstruction): Value {
    return at(this.valuesOf(it), 0);
  }

  parameter(index: number): Value {
    return at(this.#parameters, index);
  }

  constant(it: Constant): Value {
    const value = this.fresh(it, it.value.shape, 'constant', 'shared');
    this.#constants.push({ value, data: bytesOf(it.value).slice() });
    return value;
  }

  replicaId(it: ReplicaId): Value {
    const value = this.fresh(it, it.shape, 'constant', 'core');
    this.#constants.push({ value, data: 'replica-id' });
    return value;
  }

  fresh(
    it: HloInstruction,
    shape: ArrayShape,
    kind: Value['kind'] = 'temporary',
    copies: Copies = this.#varies.has(it) ? 'core' : 'shared',
  ): Value {
    return { name: nameOf(it), kind, shape, copies };
  }

  matmulTarget(it: HloInstruction, shape: ArrayShape): Value {
    return this.#buckets.partFor(it) ?? this.fresh(it, shape);
  }

  phaseOf(it: HloInstruction): Phase {
    return this.#updates.has(it) ? 'update' : 'compute';
  }

  push(step: Step): void {
    this.#steps.push(step);
  }

  tableIndex(table: Int32Array): number {
    return this.#tables.indexOf(table);
  }

  addInfeed(shape: ArrayShape): number {
    return this.#infeed.push(shape) - 1;
  }

  addOutfeed(element: { readonly shape: ArrayShape; readonly copies: Copies }): number {
    return this.#outfeed.push(element) - 1;
  }

  /**
   * Returns the index of the generated function for a fused loop. Fused loops with equal bodies
   * share one function.
   */
  functionOf(it: Fusion): number {
    const structure = structureOf(it.body);
    const known = this.#functions.get(structure);
    if (known !== undefined) return known;
    const number = this.#fusedLoops.push({ name: nameOf(it), body: it.body }) - 1;
    this.#functions.set(structure, number);
    return number;
  }

  addExchange(exchange: LoweredExchange): number {
    return this.#exchanges.push(exchange) - 1;
  }

  startAllReduce(it: AllReduce): readonly Value[] {
    return this.#buckets.start(it);
  }
}

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
