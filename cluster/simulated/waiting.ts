import { assert } from '../../src/numerics/assert.ts';
import type { PodOptions } from '../../src/pod/pod.ts';
import type { Agenda } from './agenda.ts';

/** Longest virtual time, in ms, for a step or for a start. No recovery takes so long. */
const waitMsLimit = 3_600_000;

type Saved = NonNullable<PodOptions['saved']>;

/** Waits for promises in virtual time: lets the events of an agenda happen until one is settled. */
export class Waiting {
  readonly #agenda: Agenda;
  /** Number of calls of `PodOptions.saved` that have not returned yet. */
  #reading = 0;
  /** True if an event may have resolved a promise, so that its continuations must run first. */
  #mustDrain = true;

  constructor(agenda: Agenda) {
    this.#agenda = agenda;
  }

  /** Called when an event may have resolved a promise. */
  touch(): void {
    this.#mustDrain = true;
  }

  /** Resolves after `us` microseconds of virtual time. */
  pass(us: number): Promise<void> {
    return new Promise((resolve) => {
      this.#agenda.after(us, () => {
        this.touch();
        resolve();
      });
    });
  }

  /**
   * Lets events happen until a promise of the driver is settled. After each event that can have
   * resolved a promise, all continuations run before the next event: they are done when the event
   * loop of the engine comes to its next turn. Virtual time stands still while nobody waits.
   */
  async until<T>(promise: Promise<T>): Promise<T> {
    const agenda = this.#agenda;
    const sinceMs = agenda.nowMs;
    let isSettled = false;
    const settle = (): void => {
      isSettled = true;
    };
    promise.then(settle, settle);
    this.#mustDrain = true;
    for (;;) {
      if (this.#mustDrain) await this.#drain();
      if (isSettled) return promise;
      assert(agenda.nowMs - sinceMs < waitMsLimit, `nothing ends within ${waitMsLimit} ms`);
      agenda.next();
    }
  }

  async #drain(): Promise<void> {
    this.#mustDrain = false;
    do await turn();
    while (this.#reading > 0);
  }

  /** Returns `saved` with a count of its running calls, which take no virtual time. */
  counted(saved: Saved): Saved {
    return async (program, steps) => {
      this.#reading++;
      try {
        return await saved(program, steps);
      } finally {
        this.#reading--;
      }
    };
  }
}

/** Resolves at the next turn of the event loop, when all promise continuations have run. */
function turn(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve);
  });
}
