import { endOf, type IsOver } from '../../src/fault/duration.ts';
import { type Due, Injector, type Ledger, type Point } from '../../src/fault/injector.ts';
import {
  type DiskFault,
  type EndingFault,
  endsWorker,
  type Fault,
  isDiskFault,
  isLinkFault,
  isMasterFault,
  type MasterFault,
} from '../../src/fault/plan.ts';
import type { NetworkFault } from '../net/link-faults.ts';

/**
 * What a simulated worker does or waits for before it goes on. Times are virtual, in microseconds.
 */
export type Wait =
  /** The worker computes for `us` microseconds, or for a multiple of `us` if a fault slows it. */
  | { readonly kind: 'work'; readonly us: number }
  /** The worker pauses because of a fault, and takes no messages. */
  | { readonly kind: 'stand'; readonly us: number }
  /** The worker waits for the sum of a bucket. */
  | { readonly kind: 'sum'; readonly bucket: number }
  /** The worker never goes on: a fault has ended it or makes it hang. */
  | { readonly kind: 'end'; readonly how: EndingFault };

/** Callbacks for the faults that {@link Probe} does not inject by itself. */
export interface FaultTargets {
  /** Flips a bit in the memory of the Cloud TPU. */
  flip(fault: Fault & { readonly fault: 'flip-bit' }): void;
  /** Begins a partition, or a fault of a link that leaves the Cloud TPU. */
  begin(fault: NetworkFault): void;
  /** Begins a fault of the master or of its disk. */
  disturb(fault: MasterFault | DiskFault): void;
}

/** A fault under way: all work takes `factor` times as long, until `isOver` returns true. */
interface Slow {
  readonly factor: number;
  readonly isOver: IsOver;
}

/** Injects the faults of a plan into one simulated worker. */
export class Probe {
  readonly #injector: Injector;
  readonly #targets: FaultTargets;
  readonly #nowMs: () => number;
  #slow: Slow | undefined;
  #step = 0;

  constructor(faults: readonly Due[], ledger: Ledger, targets: FaultTargets, nowMs: () => number) {
    this.#injector = new Injector(faults, ledger);
    this.#targets = targets;
    this.#nowMs = nowMs;
  }

  /** True if no fault is left to inject. Calls of `reach` are then needless. */
  get isDone(): boolean {
    return this.#injector.isDone;
  }

  /** Injects the faults that the plan sets for the point that the worker has reached. */
  *reach(point: Point): Generator<Wait, void> {
    yield* this.waitsAt(point);
  }

  /**
   * Injects the faults that the plan sets for a point. A fault that pauses or ends the worker does
   * not take effect here: the result says, in order, what the worker must do for such faults. All
   * other faults take effect at once.
   */
  waitsAt(point: Point): readonly Wait[] {
    if (point.kind === 'step' && point.phase !== 'evaluate') this.#step = point.step;
    return this.#injector.reached(point).flatMap(({ fault }) => this.#inject(fault));
  }

  /** Returns how long work of `us` microseconds takes: longer if the worker is a straggler. */
  stretched(us: number): number {
    if (this.#slow === undefined) return us;
    if (this.#slow.isOver(this.#step, this.#nowMs())) this.#slow = undefined;
    return Math.round(us * (this.#slow?.factor ?? 1));
  }

  #inject(fault: Fault): readonly Wait[] {
    if (endsWorker(fault)) return [{ kind: 'end', how: fault.fault }];
    if (isLinkFault(fault) || fault.fault === 'partition') this.#targets.begin(fault);
    else if (isMasterFault(fault) || isDiskFault(fault)) this.#targets.disturb(fault);
    else if (fault.fault === 'flip-bit') this.#targets.flip(fault);
    else if (fault.fault === 'slow') {
      const isOver = endOf(fault.for, this.#step, this.#nowMs());
      this.#slow = { factor: fault.factor, isOver };
    } else if (fault.fault === 'pause') {
      return [{ kind: 'stand', us: Math.round(1000 * (fault.for.ms ?? 0)) }];
    }
    return [];
  }
}

/**
 * Thrown by an all-reduce when a fault stops the worker before a hop. In a hop, the worker receives
 * a frame, sends a frame, or does both.
 */
export class HopStop extends Error {
  readonly waits: readonly Wait[];

  /** `waits` is what the worker must do, in order, before it makes the hop. */
  constructor(waits: readonly Wait[]) {
    super('a fault stops the worker at a hop');
    this.waits = waits;
  }
}
