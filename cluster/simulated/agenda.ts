import { assert, broken } from '../../src/numerics/assert.ts';

/** A future event. `order` is the number of events that were added before this event. */
interface Entry {
  readonly us: number;
  readonly order: number;
  readonly act: () => void;
}

/**
 * The clock of a simulation, which shows virtual time, and the future events of the simulation.
 * Events happen in order of their times; events of the same time happen in the order in which they
 * were added. Times are whole numbers of microseconds, so sums of times are exact.
 */
export class Agenda {
  /**
   * A binary heap. The parent of entry i is entry ⌊(i − 1) / 2⌋. The event of entry i never happens
   * before the event of its parent.
   */
  readonly #heap: Entry[] = [];
  #nowUs = 0;
  #added = 0;

  /** Virtual time, in microseconds. */
  get nowUs(): number {
    return this.#nowUs;
  }

  /** Virtual time, in ms. */
  get nowMs(): number {
    return this.#nowUs / 1000;
  }

  /** Adds an event that happens `us` microseconds from now, in virtual time. */
  after(us: number, act: () => void): void {
    this.at(this.#nowUs + us, act);
  }

  /** Adds an event that happens at virtual time `us`, in microseconds. */
  at(us: number, act: () => void): void {
    // A call of `assert` would make the text of its error even if no error occurs, and there are
    // very many events.
    if (!(us >= this.#nowUs && Number.isSafeInteger(us))) broken(`an event at ${us} µs`);
    const heap = this.#heap;
    const entry: Entry = { us, order: this.#added++, act };
    let place = heap.length;
    while (place > 0) {
      const parent = (place - 1) >> 1;
      if (isBefore(heap[parent]!, entry)) break;
      heap[place] = heap[parent]!;
      place = parent;
    }
    heap[place] = entry;
  }

  /** Sets the clock to the time of the next event, and lets this event happen. */
  next(): void {
    const first = this.#take();
    assert(first !== undefined, 'virtual time has come to its end: nothing will happen any more');
    this.#nowUs = first.us;
    first.act();
  }

  #take(): Entry | undefined {
    const heap = this.#heap;
    const first = heap[0];
    const last = heap.pop();
    if (last === undefined || heap.length === 0) return first;
    let place = 0;
    for (;;) {
      let child = 2 * place + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && isBefore(heap[child + 1]!, heap[child]!)) child++;
      if (isBefore(last, heap[child]!)) break;
      heap[place] = heap[child]!;
      place = child;
    }
    heap[place] = last;
    return first;
  }
}

function isBefore(a: Entry, b: Entry): boolean {
  return a.us < b.us || (a.us === b.us && a.order < b.order);
}
