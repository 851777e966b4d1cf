import { assert } from '../../src/numerics/assert.ts';
import type { PodOptions } from '../../src/pod/pod.ts';
import type { Agenda } from './agenda.ts';

/**
 * Longest virtual time, in ms, that a step or a start may take. Even with a recovery none takes so
 * long, so a longer wait is an error in the program.
 */
const waitMsLimit = 3_600_000;

type Saved = NonNullable<PodOptions['saved']>;

/** Waits for promises in virtual time: lets events happen until the awaited promise is settled. */
export class Waiting {
  readonly #agenda: Agenda;
  /** Number of calls of `PodOptions.saved` that have not returned yet. */
  #reading = 0;
  /**
   * True if a promise may have been resolved since the last call of `#drain`. If true, `#drain`
   * must be called before the next event: it lets the code run that awaits such promises.
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
   * only during calls of `until`. If an event may have resolved promises, the code that awaits
   * these promises must run before the next event. So `until` first waits for the next turn of
   * Node's event loop; by then that code has run.
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
   * Returns a function that does the same as `saved`, and stops the simulation while it does so: no
   * event happens, and virtual time stands still.
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
