import { assert } from '../../src/numerics/assert.ts';
import type { Agenda } from './agenda.ts';

/**
 * Longest virtual time, in ms, between two signs of progress of a run. No step takes so long, even
 * with a recovery. A longer wait shows a bug of this program.
 */
const waitMsLimit = 3_600_000;
const noProgress = `no progress within ${waitMsLimit} ms`;

/** Waits for promises in virtual time: lets events happen until the given promise is settled. */
export class Waiting {
  readonly #agenda: Agenda;
  /** Virtual time, in ms, of the last sign of progress. */
  #progressMs = 0;
  /**
   * True if a promise may have been resolved since the last call of `#drain`. Before the next
   * event, `#drain` must then let the code run that awaits the promise.
   */
  #mustDrain = true;

  constructor(agenda: Agenda) {
    this.#agenda = agenda;
  }

  /** Called when an event may have resolved a promise. */
  touch(): void {
    this.#mustDrain = true;
  }

  /** Called when the run has made progress, for example committed a step. */
  progressed(): void {
    this.#progressMs = this.#agenda.nowMs;
  }

  /**
   * Lets events happen, one after another, until the given promise is settled. Virtual time goes on
   * only during calls of `until`. After an event that may have resolved promises, the code that
   * awaits these promises must run before the next event. So `until` then waits for the next turn
   * of Node's event loop. By then this code has run.
   */
  async until<T>(promise: Promise<T>): Promise<T> {
    const agenda = this.#agenda;
    this.progressed();
    let isSettled = false;
    const settle = (): void => {
      isSettled = true;
    };
    promise.then(settle, settle);
    this.#mustDrain = true;
    for (;;) {
      if (this.#mustDrain) await this.#drain();
      if (isSettled) return promise;
      assert(agenda.nowMs - this.#progressMs < waitMsLimit, noProgress);
      agenda.next();
    }
  }

  #drain(): Promise<void> {
    this.#mustDrain = false;
    return turn();
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
