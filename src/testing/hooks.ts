import type { SeenEvent, StepSeen } from '../fault/seen.ts';
import { PodError } from '../numerics/error.ts';
import { quote } from '../numerics/quote.ts';

/**
 * A function that a test gives to `onEvent` or `onStep`. It is called with each event, or with each
 * step, of the run. If the function returns a promise, `train` waits for that promise too.
 */
export type Hook =
  | { readonly method: 'onEvent'; readonly call: (event: SeenEvent) => unknown }
  | { readonly method: 'onStep'; readonly call: (step: StepSeen) => unknown };

/** The hooks of one run, and the first error that one of them has thrown. */
export class Hooks {
  readonly #hooks: readonly Hook[];
  readonly #running: Promise<void>[] = [];
  #failure: { readonly error: unknown } | undefined;

  /** @throws PodError `bad-plan` for a hook that is no function. */
  constructor(hooks: readonly Hook[]) {
    for (const { method, call } of hooks) {
      if (typeof call === 'function') continue;
      throw new PodError('bad-plan', `${method}: expected a function, found ${quote(call)}`);
    }
    this.#hooks = hooks;
  }

  /**
   * Calls the hooks with an event. Does not wait for asynchronous hooks.
   *
   * Throws the error of a hook. The error of an asynchronous hook is thrown by the next call after
   * it, or by {@link settled}.
   */
  tell(event: SeenEvent): void {
    this.#check();
    for (const hook of this.#hooks) this.#watch(called(hook, event));
  }

  /** Waits until all asynchronous hooks have ended. Throws the first error of a hook. */
  async settled(): Promise<void> {
    await Promise.all(this.#running);
    this.#check();
  }

  #watch(result: unknown): void {
    if (!isThenable(result)) return;
    const ended = Promise.resolve(result).then(
      () => undefined,
      (error: unknown) => {
        this.#failure ??= { error };
      },
    );
    this.#running.push(ended);
  }

  #check(): void {
    if (this.#failure !== undefined) throw this.#failure.error;
  }
}

function called(hook: Hook, event: SeenEvent): unknown {
  if (hook.method === 'onEvent') return hook.call(event);
  return event.kind === 'step' ? hook.call(event) : undefined;
}

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof value === 'object' && value !== null && 'then' in value;
}
