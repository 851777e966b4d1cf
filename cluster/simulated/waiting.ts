import { assert } from '../../src/numerics/assert.ts';
import type { PodOptions } from '../../src/pod/pod.ts';
import type { Agenda } from './agenda.ts';

/** Longest virtual time, in ms, for a step or a start. Even a recovery takes less. */
const waitMsLimit = 3_600_000;

type Saved = NonNullable<PodOptions['saved']>;

/** Waits for promises in virtual time: lets events happen until the awaited promise is settled. */
export class Waiting {
  readonly #agenda: Agenda;
  /** Number of calls of `PodOptions.saved` that have not returned yet. */
  #reading = 0;
  /**
   * True if a promise may have been resolved since the last call of `#drain`. The code that awaits
   * this promise must then run before the next event.
   */
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
   * Lets events happen, one after another, until the given promise is settled. Virtual time goes on
   * only during calls of `until`. An event may resolve promises. The code that awaits these
   * promises must run before the next event. Therefore `until` then waits for the next turn of
   * Node's event loop, because all such code has run by that time.
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

  /**
   * Returns a function that does the same as `saved`. While a call of it is under way, no event
   * happens, so virtual time stands still.
   */
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

/**
 * Resolves at the next turn of the event loop. By then all code that awaits a settled promise has
 * run.
 */
function turn(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve);
  });
}
