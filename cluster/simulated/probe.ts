import { type Due, Injector, type Ledger, type Point } from '../../src/fault/injector.ts';
import type { Duration, Fault } from '../../src/fault/plan.ts';

/** Ways in which a fault ends a worker. */
export type Ending = 'kill' | 'exit' | 'throw' | 'out-of-memory' | 'hang';

/** What a worker does or waits for, until it goes on. Times are in microseconds. */
export type Wait =
  /** It works. A straggler works longer. */
  | { readonly kind: 'work'; readonly us: number }
  /** It stands still, and takes no message. */
  | { readonly kind: 'stand'; readonly us: number }
  /** It waits for a frame of its predecessor on an axis of the torus. */
  | { readonly kind: 'frame'; readonly axis: 0 | 1 }
  /** It does not go on: it has ended, or hangs. */
  | { readonly kind: 'end'; readonly how: Ending };

/** Memory of a worker in which a fault can flip a bit. */
export interface FlippableMemory {
  flip(fault: Fault & { readonly fault: 'flip-bit' }): void;
}

/** A straggler, until `isOver` returns true. */
interface Slow {
  readonly factor: number;
  isOver(step: number, nowUs: number): boolean;
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

  /** True if no fault is left, so that points need not be reported any more. */
  get isDone(): boolean {
    return this.#injector.isDone;
  }

  /** Injects the faults that are due at a point, one after another. */
  *reach(point: Point): Generator<Wait, void> {
    if (point.kind === 'step' && point.phase !== 'evaluate') this.#step = point.step;
    for (const { fault } of this.#injector.reached(point)) yield* this.#inject(fault);
  }

  /** Returns how long work takes that takes `us` microseconds without faults. */
  stretched(us: number): number {
    if (this.#slow === undefined) return us;
    if (this.#slow.isOver(this.#step, this.#nowUs())) this.#slow = undefined;
    return Math.round(us * (this.#slow?.factor ?? 1));
  }

  *#inject(fault: Fault): Generator<Wait, void> {
    switch (fault.fault) {
      case 'kill':
      case 'exit':
      case 'throw':
      case 'out-of-memory':
      case 'hang':
        yield { kind: 'end', how: fault.fault };
        break;
      case 'pause':
        yield { kind: 'stand', us: Math.round(1000 * (fault.for.ms ?? 0)) };
        break;
      case 'slow':
        this.#slow = slowOf(fault.factor, fault.for, this.#step, this.#nowUs());
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

/** Returns a straggler that begins at step `step`. Without a duration it never ends. */
function slowOf(factor: number, duration: Duration | undefined, step: number, nowUs: number): Slow {
  const endStep = step + (duration?.steps ?? Number.POSITIVE_INFINITY);
  const endUs = nowUs + 1000 * (duration?.ms ?? Number.POSITIVE_INFINITY);
  return { factor, isOver: (current, currentUs) => current >= endStep || currentUs >= endUs };
}
