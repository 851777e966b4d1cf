import type { Agenda } from './agenda.ts';

/**
 * Thrown by a call if the process was killed before or during the call. The code of the process
 * must not catch it and go on.
 */
export class Killed extends Error {
  constructor() {
    super('the process was killed by a fault');
  }
}

/**
 * Process of a master in virtual time. The process runs, stands still for a while, or has ended.
 * Calls that are due while the process stands still are made when it goes on. After its end it does
 * nothing.
 */
export class Process {
  /** Resolves when the process is killed. */
  readonly killed: Promise<void>;
  readonly #agenda: Agenda;
  readonly #touch: () => void;
  readonly #waiting: (() => void)[] = [];
  #resolveKilled: () => void = () => undefined;
  #isOver = false;
  /** Virtual time, in microseconds, until which the process stands still. */
  #stillUntilUs = 0;
  /** Virtual time, in microseconds, until which the process is cut off from the workers. */
  #cutOffUntilUs = 0;

  /** `touch` is called after the promise `killed` was resolved. */
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

  /**
   * Lets the process call `act`. If the process runs, it calls `act` at once. If it stands still,
   * it calls `act` when it goes on. If it has ended, it never calls `act`.
   */
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

  /** Ends the process because its work is done. */
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
