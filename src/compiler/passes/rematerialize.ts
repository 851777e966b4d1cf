import { computation, fusion, getTupleElement, named, tuple } from '../../hlo/build.ts';
import { optBarrier } from '../../hlo/build-control.ts';
import type { Fusion, HloInstruction, HloModule, Parameter } from '../../hlo/instruction.ts';
import { familyOf } from '../../hlo/ops.ts';
import { postOrder, withOperands } from '../../hlo/traverse.ts';
import { at } from '../../numerics/assert.ts';
import { isArray } from '../../numerics/shape.ts';
import { paddedBytes } from '../hbm.ts';
import { loweringOf } from '../lowering/table.ts';
import { schedule } from '../schedule.ts';

/** A module after {@link rematerialize}. */
export interface Rematerialized {
  readonly module: HloModule;
  /** Number of values that are computed a second time. */
  readonly recomputed: number;
}

/** Largest number of values for which the function tries whether a second computation helps. */
const triesMax = 400;

/**
 * Computes values a second time, directly before their late users, instead of keeping them in HBM
 * from their first users on. Typical values are activations, which the forward pass computes and the
 * backward pass reads again. Only values that are cheap to compute are chosen: those of fused loops
 * and of single element-wise operations. No bit of a result changes, because the same operations run
 * on the same values.
 *
 * At each try, the function looks at the moment at which most bytes are in use, and chooses the value
 * whose absence frees most bytes at that moment. It stops when at most `limitBytes` bytes are in use
 * at any time, or when nothing helps. The bytes are an estimate: buffer assignment may use memory
 * again earlier than the lifetimes of values say.
 */
export function rematerialize(module: HloModule, limitBytes: number): Rematerialized {
  let now = module;
  let lives = new Lives(now);
  let recomputed = 0;
  const rejected = new Set<HloInstruction>();
  for (let tries = 0; tries < triesMax && lives.peakBytes > limitBytes; tries++) {
    const value = lives.best(rejected);
    if (value === undefined) break;
    const next = recomputedLate(now, value, lives);
    const after = new Lives(next);
    if (after.peakBytes >= lives.peakBytes) {
      rejected.add(value);
      continue;
    }
    [now, lives] = [next, after];
    recomputed++;
  }
  return { module: now, recomputed };
}

/** The lifetimes of the values of a module, in the order in which its instructions run. */
class Lives {
  /** The moment at which most bytes are in use: the index of an instruction. */
  readonly peak: number;
  readonly peakBytes: number;
  /** The instructions, in the order in which they run. */
  readonly order: readonly HloInstruction[];
  readonly #start: Map<HloInstruction, number> = new Map();
  readonly #readers: Map<HloInstruction, number[]> = new Map();

  constructor({ entry }: HloModule) {
    const order = schedule(entry).flatMap(({ action, it }) => (action === 'run' ? [it] : []));
    this.order = order;
    for (const [i, it] of order.entries()) {
      if (renames(it) && it !== entry.root) continue;
      this.#start.set(it, i);
      for (const value of it.operands.flatMap(valuesOf)) this.#readAt(value, i);
    }
    const change = new Float64Array(order.length + 1);
    for (const [value, readers] of this.#readers) {
      if (isKept(value)) continue;
      change[this.startOf(value)]! += bytesOf(value);
      change[readers.at(-1)! + 1]! -= bytesOf(value);
    }
    let [used, most, peak] = [0, 0, 0];
    for (const [i, bytes] of change.entries()) {
      used += bytes;
      if (used > most) [most, peak] = [used, i];
    }
    this.peak = peak;
    this.peakBytes = most;
  }

  /** Index of the instruction that computes a value. */
  startOf(value: HloInstruction): number {
    return this.#start.get(maker(value)) ?? -1;
  }

  /** Returns the instructions that read a value after the peak, in order. */
  lateReaders(value: HloInstruction): readonly HloInstruction[] {
    const late = this.#readers.get(value)!.filter((i) => i > this.peak);
    return late.map((i) => at(this.order, i));
  }

  /**
   * Returns the operand of a late reader of `value` that is computed last, if that is after the peak.
   * A second computation of `value` then has to wait for this operand. Otherwise the schedule, which
   * goes through the operands in order, could place it before the peak.
   */
  lastOperand(reader: HloInstruction, value: HloInstruction): HloInstruction | undefined {
    const startOf = (it: HloInstruction): number =>
      Math.max(-1, ...valuesOf(it).map((x) => this.startOf(x)));
    const others = reader.operands.filter(
      (it) => !valuesOf(it).includes(value) && isArray(it.shape),
    );
    const last = others.toSorted((a, b) => startOf(b) - startOf(a))[0];
    return last !== undefined && startOf(last) > this.peak ? last : undefined;
  }

  /** Returns the value whose second computation frees most bytes at the peak, if any frees some. */
  best(rejected: ReadonlySet<HloInstruction>): HloInstruction | undefined {
    let best: HloInstruction | undefined;
    let most = 0;
    for (const value of this.#readers.keys()) {
      if (rejected.has(value) || !this.#isCandidate(value)) continue;
      const freed = this.#freedBy(value);
      if (freed > most) [best, most] = [value, freed];
    }
    return best;
  }

  /** True for a cheap value that lies in memory unread at the peak, and that is no result. */
  #isCandidate(value: HloInstruction): boolean {
    const readers = this.#readers.get(value)!;
    const isOver = this.startOf(value) >= this.peak || readers.at(-1)! <= this.peak;
    const isResult = readers.at(-1) === this.order.length - 1;
    return !isOver && !isResult && !readers.includes(this.peak) && isCheap(maker(value));
  }

  /** Bytes that are free at the peak if `value` is computed again after it, minus those it needs. */
  #freedBy(value: HloInstruction): number {
    const needed = new Set(sourcesOf(value).flatMap(valuesOf));
    const longer = [...needed].filter(
      (it) => !isKept(it) && this.#readers.get(it)!.at(-1)! <= this.peak,
    );
    return bytesOf(value) - longer.reduce((sum, it) => sum + bytesOf(it), 0);
  }

  #readAt(value: HloInstruction, i: number): void {
    const readers = this.#readers.get(value);
    if (readers === undefined) this.#readers.set(value, [i]);
    else readers.push(i);
  }
}

/** Returns the module in which the late readers of a value read a second computation of it. */
function recomputedLate(module: HloModule, value: HloInstruction, lives: Lives): HloModule {
  const readers = new Set(lives.lateReaders(value));
  const made = new Map<HloInstruction, HloInstruction>();
  const late = new Map<HloInstruction, HloInstruction>();
  const lateOf = (it: HloInstruction): HloInstruction => {
    const known = late.get(it);
    if (known !== undefined) return known;
    const isPath = renames(it) && valuesOf(it).includes(value);
    const copy = isPath ? withOperands(it, it.operands.map(lateOf)) : made.get(it)!;
    late.set(it, copy);
    return copy;
  };
  for (const it of lives.order) {
    if (readers.has(it) && !late.has(value)) {
      const sources = sourcesOf(value).map((x) => made.get(x)!);
      const last = lives.lastOperand(it, value);
      const barrier = last === undefined ? undefined : barrierOf([...sources, made.get(last)!]);
      if (last !== undefined) late.set(last, at(barrier!, sources.length));
      late.set(value, again(value, barrier?.slice(0, -1) ?? sources));
    }
    const now = readers.has(it) ? lateOf : (x: HloInstruction) => made.get(x)!;
    made.set(it, withOperands(it, it.operands.map(now)));
  }
  return { ...module, entry: { ...module.entry, root: made.get(module.entry.root)! } };
}

/**
 * Returns the given values behind a barrier. What is computed of one of them is then computed only
 * after all of them.
 */
function barrierOf(values: readonly HloInstruction[]): readonly HloInstruction[] {
  const all = optBarrier(tuple(values));
  return values.map((_, i) => getTupleElement(all, i));
}

/** Returns a second computation of a value, of the given sources. */
function again(value: HloInstruction, sources: readonly HloInstruction[]): HloInstruction {
  const from = maker(value);
  const copy = from.opcode === 'fusion' ? oneOutput(from, value, sources) : from;
  const made = copy === from ? { ...withOperands(from, sources) } : copy;
  return value.name === undefined ? made : named(made, `${value.name}/again`);
}

/** Returns a fusion of the given sources that computes only `value`, a result of the fusion `it`. */
function oneOutput(
  it: Fusion,
  value: HloInstruction,
  sources: readonly HloInstruction[],
): HloInstruction {
  const root = outputOf(it, value);
  const used = usedParameters(it, root);
  const parameters = used.map((old, index): Parameter => ({ ...old, index }));
  const renamed = new Map<HloInstruction, HloInstruction>(
    used.map((old, i) => [old, at(parameters, i)]),
  );
  for (const inner of postOrder(root)) {
    if (renamed.has(inner)) continue;
    const operands = inner.operands.map((x) => renamed.get(x)!);
    renamed.set(inner, withOperands(inner, operands));
  }
  const body = computation(`${it.body.name}_again`, parameters, renamed.get(root)!);
  return fusion(it.kind, sources, body);
}

function outputOf(it: Fusion, value: HloInstruction): HloInstruction {
  if (value.opcode !== 'get-tuple-element') return it.body.root;
  return at(it.body.root.operands, value.index);
}

function usedParameters({ body }: Fusion, root: HloInstruction): readonly Parameter[] {
  const needed = new Set(postOrder(root));
  return body.parameters.filter((it) => needed.has(it));
}

/** Returns the operands of the instruction that computes a value which the value depends on. */
function sourcesOf(value: HloInstruction): readonly HloInstruction[] {
  const from = maker(value);
  if (from.opcode !== 'fusion') return from.operands;
  const used = usedParameters(from, outputOf(from, value));
  return used.map(({ index }) => at(from.operands, index));
}

/**
 * Returns the values in memory that an operand stands for. A value is an array that an instruction
 * computes, or an element of the tuple that an instruction computes.
 */
function valuesOf(it: HloInstruction): readonly HloInstruction[] {
  if (it.opcode === 'get-tuple-element') {
    const element = elementOf(at(it.operands, 0), it.index);
    return element === undefined ? [it] : valuesOf(element);
  }
  return renames(it) ? it.operands.flatMap(valuesOf) : [it];
}

/** Returns the operand that is an element of a tuple; undefined if an instruction computes it. */
function elementOf(it: HloInstruction, index: number): HloInstruction | undefined {
  if (it.opcode === 'tuple') return at(it.operands, index);
  return it.opcode === 'opt-barrier' ? elementOf(at(it.operands, 0), index) : undefined;
}

/** Returns the instruction that computes a value. */
function maker(value: HloInstruction): HloInstruction {
  return value.opcode === 'get-tuple-element' ? at(value.operands, 0) : value;
}

/** True for an instruction that only gives another name to values. */
function renames(it: HloInstruction): boolean {
  return loweringOf(it).name !== undefined && !isKept(it);
}

/** True for a value that is in memory during the whole program. */
function isKept({ opcode }: HloInstruction): boolean {
  return opcode === 'parameter' || opcode === 'constant';
}

function isCheap(it: HloInstruction): boolean {
  const family = familyOf(it);
  return it.opcode === 'fusion' || family === 'elementwise' || family === 'rearranging';
}

function bytesOf({ shape }: HloInstruction): number {
  return isArray(shape) ? paddedBytes(shape) : 0;
}
