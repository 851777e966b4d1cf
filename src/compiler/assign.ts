import type { Buffer, BufferId, HbmReport } from '../isa/executable.ts';
import { assert, at } from '../numerics/assert.ts';
import { elementBytes } from '../numerics/element-type.ts';
import { PodError } from '../numerics/error.ts';
import { byteCount, sameShape, shapeText } from '../numerics/shape.ts';
import { type Allocation, align, allocate, type Block } from './allocate.ts';
import { hbmAlignment, paddedBytes } from './hbm.ts';
import { baseOf, copiesOf, copyStep, type Program, type Step, type Value } from './program.ts';

/**
 * Result of buffer assignment: the place of every value in the arena (the emulator's memory of one
 * Cloud TPU) and in the HBM of a core.
 */
export interface Assignment {
  /**
   * Steps of the program, followed by copies. Such a copy moves a result into the memory of the
   * parameter that the result replaces, if the result was computed elsewhere.
   */
  readonly steps: readonly Step[];
  readonly buffers: readonly Buffer[];
  readonly bufferOf: (value: Value) => BufferId;
  readonly results: readonly BufferId[];
  /** `next[p]`: buffer that holds the value of parameter p after a step. See `Executable.next`. */
  readonly next?: readonly BufferId[];
  /** Bytes of the arena, which holds all buffers. */
  readonly arenaBytes: number;
  readonly hbm: HbmReport;
}

export interface AssignOptions {
  readonly cores: number;
  readonly hbmLimitBytes: number;
  /** Bytes that the instructions of the program itself take in HBM. */
  readonly programBytes: number;
  /**
   * True if the arena keeps two values of each updated parameter: the value from before the step
   * and the new value. If false, the new value overwrites the old value. The layout of HBM is the
   * same in both cases.
   */
  readonly keepPrevious?: boolean;
}

/**
 * Gives every value a place in two memories: in the emulator's arena (the copies of all cores,
 * without padding) and in the HBM of a core (one copy, padded to tiles). Two rules save memory:
 *
 * - A result that replaces a parameter (an aliased result) is computed directly in the memory of
 *   the parameter's new value if no later step reads the old value.
 * - A fused loop that works element by element writes its result over a source that no later step
 *   reads.
 *
 * @throws PodError `out-of-hbm` if the program does not fit into HBM; `unsupported-program` if an
 * aliased result differs between cores.
 */
export function assign(program: Program, options: AssignOptions): Assignment {
  const device = plan(program, program.parameters);
  if (!options.keepPrevious) return layOut(device, device, options);
  return layOut(device, plan(program, nextValues(program)), options);
}

/** Plan for one memory (arena or HBM): the lifetimes of values, and which values share a place. */
interface Plan {
  readonly program: Program;
  readonly steps: readonly Step[];
  readonly results: readonly Value[];
  /** `next[p]`: value that holds parameter p after the last step. */
  readonly next: readonly Value[];
  readonly slots: Slots;
  readonly lives: Lifetimes;
}

function plan(program: Program, next: readonly Value[]): Plan {
  const kept = next.filter((value, i) => value !== program.parameters[i]);
  const held = { ...program, parameters: [...program.parameters, ...kept] };
  const slots = new Slots();
  const closing = placeResults(program, next, new Lifetimes(held), slots);
  const steps = [...program.steps, ...closing.steps];
  const lives = new Lifetimes({ ...held, steps, results: closing.results });
  reuseSources(steps, lives, slots);
  return { program, steps, results: closing.results, next, slots, lives };
}

/**
 * Returns, for each parameter, the value that holds the parameter after the program has run. For a
 * parameter that the program updates, this is a new value with memory of its own, so that the old
 * value is kept. For any other parameter, the parameter is its own next value.
 */
function nextValues({ parameters, results, aliases }: Program): readonly Value[] {
  return parameters.map((value, parameter) => {
    const alias = aliases.find((it) => it.parameter === parameter);
    const isUpdated = alias !== undefined && at(results, alias.result) !== value;
    return isUpdated ? { ...value, name: `${value.name}/next` } : value;
  });
}

// --------------------------------------------------------------------------------------- lifetimes

/**
 * Lifetime of each value: its first step, its last step, and the steps that read it. Steps have the
 * indices 0 to `length` − 1. Index −1 is the time before the program, index `length` the time after
 * it. Parameters and constants live from −1 to `length`, results from their first step to `length`.
 */
class Lifetimes {
  readonly #start: Map<Value, number> = new Map();
  readonly #end: Map<Value, number> = new Map();
  readonly #reads: Map<Value, number[]> = new Map();
  readonly length: number;

  constructor({ steps, parameters, constants, results }: Program) {
    this.length = steps.length;
    const fixed = [...parameters, ...constants.map(({ value }) => value)];
    for (const value of fixed) this.#touch(value, -1);
    steps.forEach(({ reads, writes }, i) => {
      for (const value of [...reads, ...writes]) this.#touch(value, i);
      for (const value of reads) this.#read(value, i);
    });
    for (const value of [...fixed, ...results]) this.#touch(value, steps.length);
    for (const value of results) this.#read(value, steps.length);
  }

  /** Values that own memory, in order of first use. */
  get values(): readonly Value[] {
    return [...this.#start.keys()];
  }
  startOf(value: Value): number {
    return this.#start.get(value)!;
  }
  endOf(value: Value): number {
    return this.#end.get(value)!;
  }
  /**
   * Indices of the steps that read a value, ascending. For a result, the last index is `length`,
   * the time after the last step, when the caller reads the result.
   */
  readsOf(value: Value): readonly number[] {
    return this.#reads.get(value) ?? [];
  }

  #touch(value: Value, i: number): void {
    const base = baseOf(value);
    if (!this.#start.has(base)) this.#start.set(base, i);
    this.#end.set(base, i);
  }

  #read(value: Value, i: number): void {
    const reads = this.#reads.get(baseOf(value)) ?? [];
    reads.push(i);
    this.#reads.set(baseOf(value), reads);
  }
}

// ------------------------------------------------------------------------------------------- slots

/**
 * Sets of values that share a place in memory. The values of a set use their place one after
 * another, never at the same time.
 */
class Slots {
  readonly #parent: Map<Value, Value> = new Map();

  /**
   * Returns the first value of the set that contains `value`. The first value stands for the set.
   */
  of(value: Value): Value {
    let first = value;
    for (let next = this.#parent.get(first); next !== undefined; next = this.#parent.get(first)) {
      first = next;
    }
    return first;
  }

  /** Makes the value `later` share the place in memory of the value `earlier`. */
  join(later: Value, earlier: Value): void {
    assert(this.of(later) === later, `${later.name} has a place already`);
    this.#parent.set(later, this.of(earlier));
  }
}

interface Closing {
  readonly steps: readonly Step[];
  /** `results[r]`: value that holds result r after the last step. */
  readonly results: readonly Value[];
}

/**
 * Gives each aliased result (a result that replaces parameter p) its place in the memory of
 * `next[p]`. If possible, the result is computed directly in this memory. Otherwise the result is
 * computed elsewhere, and after the last step a copy moves it there.
 *
 * Such a copy may overwrite the old value of a parameter that is still needed, as a result or as
 * the source of another copy. In this case an earlier copy saves the old value to a temporary.
 */
function placeResults(
  program: Program,
  next: readonly Value[],
  lives: Lifetimes,
  slots: Slots,
): Closing {
  const overwritten = new Set<Value>();
  const copies: { readonly from: Value; readonly to: Value }[] = [];
  const results = [...program.results];
  const aliases = program.aliases.map(({ result, parameter }) => {
    const from = at(program.results, result);
    return { result, from, old: at(program.parameters, parameter), to: at(next, parameter) };
  });
  for (const { result, from, old, to } of aliases) {
    refuseUnshared(from, old);
    results[result] = to;
    if (from === old || byteCount(old.shape) === 0) continue;
    if (old === to) overwritten.add(old);
    if (canTakeOver(program, lives, slots, from, old)) slots.join(from, to);
    else copies.push({ from, to });
  }
  const saved = new Map<Value, Value>();
  const save = (value: Value): Value => {
    if (!overwritten.has(value)) return value;
    const kept = saved.get(value) ?? { ...value, kind: 'temporary', name: `${value.name}/before` };
    saved.set(value, kept);
    return kept;
  };
  const moves = copies.map(({ from, to }) => copyStep(save(from), to, 'update'));
  const kept = results.map((value, i) =>
    aliases.some(({ result }) => result === i) ? value : save(value),
  );
  const saves = [...saved].map(([value, copy]) => copyStep(value, copy, 'update'));
  return { steps: [...saves, ...moves], results: kept };
}

function refuseUnshared(from: Value, to: Value): void {
  if (from.copies === 'shared') return;
  const message = `${from.name} differs between cores and cannot replace parameter ${to.name}, which all cores share`;
  throw new PodError('unsupported-program', message);
}

/**
 * True if the result `from` may be computed in the memory of the parameter `to`: `from` is a
 * temporary with memory of its own, the shapes are equal, and no step needs the old value of `to`
 * once `from` is written.
 */
function canTakeOver(
  program: Program,
  lives: Lifetimes,
  slots: Slots,
  from: Value,
  to: Value,
): boolean {
  const isOwn = from.kind === 'temporary' && from.within === undefined && slots.of(from) === from;
  if (!isOwn || !sameShape(from.shape, to.shape)) return false;
  const start = lives.startOf(from);
  if (lives.readsOf(to).some((i) => i > start)) return false;
  const step = at(program.steps, start);
  return !step.reads.includes(to) || mayOverwrite(step, from, to);
}

/**
 * True if the step may write `target` into the memory of `source`. That is safe if the step reads
 * each element of `source` only to compute the element of `target` at the same place.
 */
function mayOverwrite(step: Step, target: Value, source: Value): boolean {
  const allowed = step.inPlace?.[step.writes.indexOf(target)] ?? [];
  return step.reads.every((value, i) => baseOf(value) !== source || allowed.includes(i));
}

/**
 * Puts targets (outputs) of fused loops into the memory of sources (inputs) that no later step
 * reads.
 */
function reuseSources(steps: readonly Step[], lives: Lifetimes, slots: Slots): void {
  steps.forEach((step, i) => {
    const taken = new Set<Value>();
    for (const target of step.writes) {
      if (target.within !== undefined || slots.of(target) !== target) continue;
      const source = step.reads.find((value) => canReuse(value, target, i) && !taken.has(value));
      if (source === undefined) continue;
      taken.add(source);
      slots.join(target, source);
    }

    function canReuse(source: Value, target: Value, now: number): boolean {
      return (
        (source.kind === 'temporary' || source.kind === 'infeed') &&
        source.within === undefined &&
        slots.of(source).kind !== 'parameter' &&
        lives.endOf(source) === now &&
        source.copies === target.copies &&
        sameShape(source.shape, target.shape) &&
        mayOverwrite(step, target, source)
      );
    }
  });
}

// ------------------------------------------------------------------------------------------ layout

/**
 * A place in memory that one set of values shares. The steps from `start` to `end` cover the
 * lifetimes of all these values.
 */
interface Slot {
  readonly first: Value;
  readonly bytes: number;
  readonly hbmBytes: number;
  start: number;
  end: number;
}

/**
 * Computes the offsets of all values: HBM offsets from the plan `device`, arena offsets from the
 * plan `emulator`.
 */
function layOut(device: Plan, emulator: Plan, options: AssignOptions): Assignment {
  const { program, results, next } = emulator;
  const hbmSlots = slotsOf(device, options);
  const report = reportOf([...hbmSlots.values()], options);
  const hbm = placesOf(device, hbmSlots, 'hbmBytes', hbmAlignment);
  const arena = placesOf(emulator, slotsOf(emulator, options), 'bytes', arenaAlignment);
  if (hbm.extent + align(options.programBytes, hbmAlignment) > options.hbmLimitBytes) {
    refuse(report, hbm.extent + options.programBytes);
  }
  const onDevice = new Map(next.map((value, i) => [value, at(device.next, i)]));
  const ids = new Map<Value, BufferId>();
  const buffers: Buffer[] = [];
  for (const value of valuesOf(emulator)) {
    if (ids.has(value)) continue;
    ids.set(value, buffers.length);
    const hbmOffset = hbm.offsetOf(onDevice.get(value) ?? value);
    buffers.push(bufferAt(value, arena.offsetOf(value), hbmOffset));
  }
  const resultIds = results.map((value, i) => {
    const id = ids.get(value)!;
    const shape = at(program.resultShapes, i);
    return sameShape(shape, value.shape) ? id : buffers.push({ ...at(buffers, id), shape }) - 1;
  });
  buffers.push(programText(options.programBytes, hbm.extent));
  const bufferOf = (value: Value): BufferId => {
    const id = ids.get(value);
    assert(id !== undefined, `${value.name} has no buffer`);
    return id;
  };
  return {
    steps: emulator.steps,
    buffers,
    bufferOf,
    results: resultIds,
    ...(options.keepPrevious && { next: next.map(bufferOf) }),
    arenaBytes: arena.extent,
    hbm: report,
  };

  function bufferAt(value: Value, arenaOffset: number, hbmOffset: number): Buffer {
    const { name, kind, shape, copies, within } = value;
    const bytes = byteCount(shape);
    const inner = within?.offset ?? 0;
    const stride = copies === 'shared' ? 0 : byteCount(baseOf(value).shape);
    const hbmBytes = within === undefined ? paddedBytes(shape) : bytes;
    const places = { offset: arenaOffset + inner, hbmOffset: hbmOffset + inner };
    return { name, kind, shape, copies, stride, bytes, hbmBytes, ...places };
  }
}

const arenaAlignment = 64;

/**
 * Returns the buffer for the instructions of the program itself. The buffer lies above all other
 * buffers in HBM and takes no bytes in the arena.
 */
function programText(hbmBytes: number, hbmOffset: number): Buffer {
  const shape = { type: 'u32', dims: [Math.ceil(hbmBytes / elementBytes('u32'))] } as const;
  const nowhere = { offset: 0, stride: 0, bytes: 0 };
  return {
    name: 'program',
    kind: 'program',
    shape,
    copies: 'shared',
    ...nowhere,
    hbmOffset,
    hbmBytes,
  };
}

function valuesOf({ program, steps, results, next }: Plan): Value[] {
  return [
    ...program.parameters,
    ...next,
    ...program.constants.map(({ value }) => value),
    ...steps.flatMap(({ reads, writes }) => [...reads, ...writes]),
    ...results,
  ];
}

function slotsOf({ slots, lives }: Plan, { cores }: AssignOptions): Map<Value, Slot> {
  const places = new Map<Value, Slot>();
  for (const value of lives.values) {
    const first = slots.of(value);
    const start = lives.startOf(value);
    const end = lives.endOf(value);
    const place = places.get(first) ?? newSlot(first, start, end, cores);
    place.start = Math.min(place.start, start);
    place.end = Math.max(place.end, end);
    places.set(first, place);
  }
  return places;
}

function newSlot(first: Value, start: number, end: number, cores: number): Slot {
  const bytes = byteCount(first.shape) * copiesOf(first.copies, cores);
  return { first, bytes, hbmBytes: paddedBytes(first.shape), start, end };
}

/** Offset of each value in one memory, and the end of the highest value (`extent`), in bytes. */
interface Places {
  readonly offsetOf: (value: Value) => number;
  readonly extent: number;
}

function placesOf(
  { slots, lives }: Plan,
  places: ReadonlyMap<Value, Slot>,
  size: 'bytes' | 'hbmBytes',
  alignment: number,
): Places {
  const { offsets, extent } = fixedFirst([...places.values()], lives.length, size, alignment);
  const offsetOf = new Map([...places.keys()].map((first, i) => [first, at(offsets, i)]));
  return { offsetOf: (value) => offsetOf.get(slots.of(baseOf(value)))!, extent };
}

/**
 * Returns the offset of each slot (a place that a set of values shares), in the order of `list`.
 * Slots that are in use during the whole program lie at the bottom, one after another. `allocate`
 * places all other slots above them.
 */
function fixedFirst(
  list: readonly Slot[],
  end: number,
  size: 'bytes' | 'hbmBytes',
  alignment: number,
): Allocation {
  const isFixed = ({ start, end: last }: Slot): boolean => start === -1 && last === end;
  let bottom = 0;
  const fixed = list.map((slot) => {
    const offset = bottom;
    if (isFixed(slot)) bottom = align(bottom + slot[size], alignment);
    return offset;
  });
  const blocks = list.map((slot): Block => {
    return { bytes: isFixed(slot) ? 0 : slot[size], start: slot.start, end: slot.end };
  });
  const { offsets, extent } = allocate(blocks, alignment);
  const placed = list.map((slot, i) => (isFixed(slot) ? at(fixed, i) : bottom + at(offsets, i)));
  return { offsets: placed, extent: bottom + extent };
}

// ------------------------------------------------------------------------------------------ report

const largestCount = 10;

/**
 * Returns the report of HBM use at one step, the step at which most bytes are in use. The report
 * has the number of bytes in use, in total and for each kind of buffer, and the largest values.
 */
function reportOf(
  list: readonly Slot[],
  { hbmLimitBytes, programBytes }: AssignOptions,
): HbmReport {
  const moment = fullest(list);
  const alive = list.filter(({ start, end }) => start <= moment && moment <= end);
  const byKind: Record<Buffer['kind'], number> = {
    program: programBytes,
    parameter: 0,
    constant: 0,
    infeed: 0,
    gradient: 0,
    temporary: 0,
  };
  for (const { first, hbmBytes } of alive) byKind[first.kind] += hbmBytes;
  const largest = alive
    .toSorted((a, b) => b.hbmBytes - a.hbmBytes)
    .slice(0, largestCount)
    .map(({ first, hbmBytes }) => {
      return { name: first.name, shape: shapeText(first.shape), bytes: hbmBytes };
    });
  const peak = Object.values(byKind).reduce((sum, bytes) => sum + bytes, 0);
  return { limit: hbmLimitBytes, peak, byKind, largest };
}

/** Returns the step at which most bytes are in use; the first such step if there are several. */
function fullest(list: readonly Slot[]): number {
  const change = new Map<number, number>();
  const add = (at: number, bytes: number): void => {
    change.set(at, (change.get(at) ?? 0) + bytes);
  };
  for (const { start, end, hbmBytes } of list) {
    add(start, hbmBytes);
    add(end + 1, -hbmBytes);
  }
  let used = 0;
  let most = -1;
  let moment = -1;
  for (const [when, bytes] of [...change].sort(([a], [b]) => a - b)) {
    used += bytes;
    if (used > most) [most, moment] = [used, when];
  }
  return moment;
}

/** Throws `out-of-hbm` with a one-line message, worded like the message of XLA. */
function refuse({ limit, largest }: HbmReport, needed: number): never {
  const named = largest.map(({ name, shape, bytes }) => `${name} ${shape} ${sizeText(bytes)}`);
  throw new PodError(
    'out-of-hbm',
    `Ran out of HBM: the program needs ${sizeText(needed)} of ${sizeText(limit)} a core; ` +
      `largest, padded to tiles: ${named.join(', ')}`,
  );
}

function sizeText(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let unit = 0;
  let size = bytes;
  for (; size >= 1024 && unit < units.length - 1; unit++) size /= 1024;
  return `${unit === 0 ? size : size.toFixed(2)} ${units[unit]}`;
}
