import type { Axis } from '../../src/fabric/torus.ts';
import { endOf, type IsOver } from '../../src/fault/duration.ts';
import { type Due, Injector, type Ledger, type Point } from '../../src/fault/injector.ts';
import { type EndingFault, endsWorker, type Fault } from '../../src/fault/plan.ts';

/**
 * What a simulated worker does or waits for before it goes on. Times are virtual, in microseconds.
 */
export type Wait =
  /** The worker computes for `us` microseconds, or for a multiple of `us` if a fault slows it. */
  | { readonly kind: 'work'; readonly us: number }
  /** The worker pauses because of a fault, and takes no messages. */
  | { readonly kind: 'stand'; readonly us: number }
  /** The worker waits for a frame of its predecessor on an axis of the torus. */
  | { readonly kind: 'frame'; readonly axis: Axis }
  /** The worker never goes on: a fault has ended it or makes it hang. */
  | { readonly kind: 'end'; readonly how: EndingFault };

/** Memory of a worker in which a fault can flip a bit. */
export interface FlippableMemory {
  flip(fault: Fault & { readonly fault: 'flip-bit' }): void;
}

/** A fault that makes work `factor` times as long, until `isOver` returns true. */
interface Slow {
  readonly factor: number;
  readonly isOver: IsOver;
}

/** Injects the faults of a plan into one simulated worker. */
export class Probe {
  readonly #injector: Injector;
  readonly #memory: FlippableMemory;
  readonly #nowUs: () => number;
  #slow: Slow | undefined;
  #step = 0;

  constructor(
    faults: readonly Due[],
    ledger: Ledger,
    memory: FlippableMemory,
    nowUs: () => number,
  ) {
    this.#injector = new Injector(faults, ledger);
    this.#memory = memory;
    this.#nowUs = nowUs;
  }

  /** True if no fault is left to inject. Calls of `reach` are then needless. */
  get isDone(): boolean {
    return this.#injector.isDone;
  }

  /** Injects the faults that the plan sets for the point that the worker has reached. */
  *reach(point: Point): Generator<Wait, void> {
    if (point.kind === 'step' && point.phase !== 'evaluate') this.#step = point.step;
    for (const { fault } of this.#injector.reached(point)) yield* this.#inject(fault);
  }

  /** Returns how long work of `us` microseconds takes: longer if the worker is a straggler. */
  stretched(us: number): number {
    if (this.#slow === undefined) return us;
    if (this.#slow.isOver(this.#step, this.#nowUs() / 1000)) this.#slow = undefined;
    return Math.round(us * (this.#slow?.factor ?? 1));
  }

  *#inject(fault: Fault): Generator<Wait, void> {
    if (endsWorker(fault)) yield { kind: 'end', how: fault.fault };
    switch (fault.fault) {
      case 'pause':
        yield { kind: 'stand', us: Math.round(1000 * (fault.for.ms ?? 0)) };
        break;
      case 'slow':
        this.#slow = {
          factor: fault.factor,
          isOver: endOf(fault.for, this.#step, this.#nowUs() / 1000),
        };
        break;
      case 'flip-bit':
        this.#memory.flip(fault);
        break;
      default:
        // Faults of other kinds are not injected by a worker.
        break;
    }
  }
}
