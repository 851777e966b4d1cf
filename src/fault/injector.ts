import type { Grid } from '../fabric/torus.ts';
import {
  endsOf,
  endsWorker,
  type Fault,
  isDiskFault,
  isInMaster,
  isLinkFault,
  isMasterFault,
  type MembershipPhase,
  type StepPhase,
  targetsOf,
} from './plan.ts';

/**
 * A point that a worker or the master has reached. Steps and generations count from 1, as in plans.
 */
export type Point =
  | {
      readonly kind: 'step';
      readonly step: number;
      readonly phase: StepPhase;
      /**
       * Index of the bucket and index of the hop, both from 0. Only in the phases of a collective.
       */
      readonly bucket?: number;
      readonly hop?: number;
    }
  | { readonly kind: 'membership'; readonly phase: MembershipPhase; readonly generation: number };

/**
 * Record of the faults of a plan that have been injected. A fault may end the worker that injects
 * it. The record outlives that worker, so the worker that replaces it does not inject the same
 * fault again.
 */
export interface Ledger {
  /** True if the fault with this index in the plan has been injected. */
  has(index: number): boolean;
  /**
   * Records a fault. Must be called before the fault takes effect, because the fault may end the
   * worker.
   */
  record(index: number): void;
}

/** A fault with its index in the plan. */
export interface Due {
  readonly index: number;
  readonly fault: Fault;
}

/** Returns the faults of a plan that the worker of Cloud TPU `tpu` injects. */
export function dueAt(tpu: number, faults: readonly Fault[], grid: Grid): readonly Due[] {
  return faults.flatMap((fault, index) =>
    injectorsOf(fault, grid).includes(tpu) ? [{ index, fault }] : [],
  );
}

/** Returns the faults of a plan that the master injects when it commits or saves a checkpoint. */
export function dueInMaster(faults: readonly Fault[]): readonly Due[] {
  return faults.flatMap((fault, index) => (isInMaster(fault) ? [{ index, fault }] : []));
}

/**
 * Returns the Cloud TPUs whose workers inject a fault when they reach the position of the fault:
 *
 * - a fault at a commit or at a checkpoint: none, because the master injects it;
 * - a fault of the master or of its disk at any other position: Cloud TPU 0;
 * - a fault of a link: the Cloud TPU that sends over the link;
 * - a partition: the first Cloud TPU of the second group;
 * - any other fault: the Cloud TPUs that it hits.
 */
function injectorsOf(fault: Fault, grid: Grid): readonly number[] {
  if (isInMaster(fault)) return [];
  if (isMasterFault(fault) || isDiskFault(fault)) return [0];
  if (isLinkFault(fault)) return [endsOf(fault, grid)[0]];
  if (fault.fault === 'partition') return targetsOf(fault, grid).slice(0, 1);
  return targetsOf(fault, grid);
}

/**
 * Decides which faults of a plan take effect at a point. Each fault takes effect only once in a
 * run, at the first point that matches its position. If the step of that point runs again, the
 * fault does not take effect again.
 */
export class Injector {
  readonly #waiting: Due[];
  readonly #ledger: Ledger;

  /** `faults` are those that concern the caller, with their indices in the plan. */
  constructor(faults: readonly Due[], ledger: Ledger) {
    this.#waiting = faults.filter(({ index }) => !ledger.has(index));
    this.#ledger = ledger;
  }

  /** True if no fault is left, so that points need not be reported any more. */
  get isDone(): boolean {
    return this.#waiting.length === 0;
  }

  /**
   * Returns the faults that take effect at this point, and records them. If several faults match
   * the point, only the first fault of each kind takes effect. All kinds that end the worker count
   * as one kind here. The other faults take effect later, when a replacement or a repeated step
   * reaches the point again.
   */
  reached(point: Point): readonly Due[] {
    const matching = this.#waiting.filter(({ fault }) => matches(fault, point));
    const due = firstOfEach(matching, ({ fault }) => (endsWorker(fault) ? 'end' : fault.fault));
    for (const it of due) {
      this.#waiting.splice(this.#waiting.indexOf(it), 1);
      this.#ledger.record(it.index);
    }
    return due;
  }
}

/** Returns the first value with each key. */
function firstOfEach<T>(values: readonly T[], keyOf: (value: T) => string): readonly T[] {
  const first = new Map<string, T>();
  for (const value of values) if (!first.has(keyOf(value))) first.set(keyOf(value), value);
  return [...first.values()];
}

/** True if a fault takes effect at a point. A fault that is due at a wall time matches no point. */
export function matches({ at }: Fault, point: Point): boolean {
  if ('afterMs' in at) return false;
  if ('during' in at) {
    const { during, generation = 1 } = at;
    return point.kind === 'membership' && point.phase === during && point.generation >= generation;
  }
  if (point.kind !== 'step') return false;
  const { step, phase = 'compute', bucket = 0, hop = 0 } = at;
  if (point.step !== step || point.phase !== phase) return false;
  if (point.bucket === undefined) return true;
  return point.bucket === bucket && point.hop === hop;
}

/** A ledger in memory, for one process. */
export function memoryLedger(): Ledger {
  const injected = new Set<number>();
  return { has: (index) => injected.has(index), record: (index) => injected.add(index) };
}

/** Bytes of a {@link sharedLedger} for each fault of the plan. */
export const ledgerBytes = 16;

/**
 * A ledger in shared memory, for all threads of a process. For each fault of the plan it holds the
 * time of the injection and a flag. `now` returns the time in ms.
 */
export function sharedLedger(memory: SharedArrayBuffer, now: () => number): Ledger {
  const { times, flags } = columnsOf(memory);
  return {
    has: (index) => Atomics.load(flags, index) !== 0,
    record: (index) => {
      times[index] = now();
      Atomics.store(flags, index, 1);
    },
  };
}

/** Returns the time of each injection, in ms; undefined for a fault that was not injected. */
export function injectionTimes(memory: SharedArrayBuffer): readonly (number | undefined)[] {
  const { times, flags } = columnsOf(memory);
  return Array.from(times, (ms, index) => (Atomics.load(flags, index) === 0 ? undefined : ms));
}

/** Returns the time and the flag of each fault in the memory of a {@link sharedLedger}. */
function columnsOf(memory: SharedArrayBuffer): {
  readonly times: Float64Array;
  readonly flags: Int32Array;
} {
  const count = memory.byteLength / ledgerBytes;
  return {
    times: new Float64Array(memory, 0, count),
    flags: new Int32Array(memory, 8 * count, count),
  };
}
