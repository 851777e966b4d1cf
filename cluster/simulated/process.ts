import type { Agenda } from './agenda.ts';

/** Error of a call that a process does not outlive. No code may handle it and go on. */
export class Killed extends Error {
  constructor() {
    super('the process was killed by a fault');
  }
}

/**
 * Process of a master in virtual time: it runs, stands still for a while, or has ended. What happens
 * to it while it stands still happens when it goes on. What happens after its end has no effect.
 */
export class Process {
  /** Resolves when the process is killed. */
  readonly killed: Promise<void>;
  readonly #agenda: Agenda;
  readonly #touch: () => void;
  readonly #waiting: (() => void)[] = [];
  #resolveKilled: () => void = () => undefined;
  #isOver = false;
  /** Virtual times, in microseconds, until which the process stands still and is cut off. */
  #stillUntilUs = 0;
  #cutOffUntilUs = 0;

  /** Calls `touch` whenever it may have resolved a promise (see `Waiting.touch`). */
  constructor(agenda: Agenda, touch: () => void) {
    this.#agenda = agenda;
    this.#touch = touch;
    this.killed = new Promise((resolve) => {
      this.#resolveKilled = resolve;
    });
  }

  /** True if the process has ended: it was killed, or its work is done. */
  get isOver(): boolean {
    return this.#isOver;
  }

  /** True while nothing passes between the process and the workers. */
  get isCutOff(): boolean {
    return this.#agenda.nowUs < this.#cutOffUntilUs;
  }

  /** Lets the process do something: now, or when it goes on, or never if it has ended. */
  run(act: () => void): void {
    if (this.#isOver) return;
    if (this.#isStill) this.#waiting.push(act);
    else act();
  }

  /** Lets the process do something after `us` microseconds of virtual time. */
  after(us: number, act: () => void): void {
    this.#agenda.after(us, () => this.run(act));
  }

  /** Lets the process stand still for `us` microseconds. */
  pause(us: number): void {
    this.#stillUntilUs = Math.max(this.#stillUntilUs, this.#agenda.nowUs + us);
    this.#agenda.at(this.#stillUntilUs, () => this.#goOn());
  }

  /** Cuts the process off from the workers for `us` microseconds. */
  cutOff(us: number): void {
    this.#cutOffUntilUs = Math.max(this.#cutOffUntilUs, this.#agenda.nowUs + us);
  }

  /** Ends the process at once. */
  kill(): void {
    this.end();
    this.#resolveKilled();
    this.#touch();
  }

  /** Ends the process after its work is done. */
  end(): void {
    this.#isOver = true;
    this.#waiting.length = 0;
  }

  get #isStill(): boolean {
    return this.#agenda.nowUs < this.#stillUntilUs;
  }

  #goOn(): void {
    if (this.#isStill) return;
    for (const act of this.#waiting.splice(0)) this.run(act);
  }
}
