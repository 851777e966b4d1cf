import type { Topology } from '../src/fabric/torus.ts';
import { assert, at, unreachable } from '../src/numerics/assert.ts';
import { digest, digestText } from '../src/numerics/digest.ts';
import { codeOf, messageOf, PodError } from '../src/numerics/error.ts';
import type { MasterAction } from '../src/pod/master/action.ts';
import type { MasterEvent } from '../src/pod/master/event.ts';
import { isOver, master } from '../src/pod/master/master.ts';
import type { MasterOptions } from '../src/pod/master/options.ts';
import { initialMaster, type MasterState } from '../src/pod/master/state.ts';
import type { Transition } from '../src/pod/master/transition.ts';
import type { FromWorker, StepOrder, ToWorker } from '../src/pod/messages.ts';
import type { Commit, PodOptions, Program, SavedParameters } from '../src/pod/pod.ts';

/**
 * Interface to the workers of a pod, which are threads, processes or simulated. Its methods perform
 * the actions that the master's state machine returns.
 */
export interface Crew {
  send(tpu: number, message: ToWorker): void;
  /** Logs a message that the master ignored, and the reason. */
  refused(message: FromWorker, reason: string): void;
  /**
   * Wakes all workers that wait for a change of shared memory. Does nothing if the crew and the
   * workers share no memory.
   */
  abort(): void;
  /**
   * Called before a replacement of the lost worker of Cloud TPU `tpu` may join. Ends the lost
   * worker if it still runs. If `isSilent` is true, the worker has only fallen silent; it may keep
   * its memory and join again.
   */
  replace(tpu: number, isSilent: boolean): void;
  /**
   * Makes the worker of Cloud TPU `host` emulate the lost Cloud TPU `tpu` too. Called when no
   * replacement has joined in time.
   */
  adopt(tpu: number, host: number): void;
  /**
   * Prepares the links between Cloud TPUs, and the queues of their examples, for a new membership.
   * Called while no Cloud TPU runs a step. `steps[p]`: number of steps applied to the parameters of
   * program p.
   */
  reset(generation: number, steps: readonly number[]): void;
  /**
   * Releases the infeed slots of a step that all workers have completed. Called when the step is
   * committed. Also called when a committed step has run again after a rollback.
   */
  release(order: StepOrder): void;
  /**
   * Copies parameters from Cloud TPU `from` to Cloud TPU `tpu`, at least those of every program
   * that has its own. (Other programs copy their parameters from such a program.) `steps[p]`:
   * number of steps applied to the parameters of program p.
   */
  restore(tpu: number, from: number, steps: readonly number[]): Promise<void>;
  /**
   * Sets the parameters of every Cloud TPU to saved values. `saved[p]`: the values for program p,
   * or undefined to leave its parameters unchanged. `steps[p]`: number of steps applied to the
   * parameters of program p after this call.
   */
  rollBack(
    saved: readonly (SavedParameters | undefined)[],
    steps: readonly number[],
  ): Promise<void>;
  /** Ends all workers, because the run has failed. */
  close(): void;
}

/**
 * A call that has not returned yet. Either a call of `step`, which waits for a commit, or a call of
 * `untilReady`, which waits until the pod can run a step.
 */
interface Waiter {
  readonly sinceMs: number;
  resolve(commit: Commit | undefined): void;
  reject(error: PodError): void;
}

/**
 * Drives the master's state machine of a pod: passes events to the state machine, and has the crew
 * perform the actions that the state machine returns. The clock is an argument of the constructor.
 */
export class Driver {
  readonly #options: PodOptions;
  readonly #crew: Crew;
  readonly #now: () => number;
  readonly #events: MasterEvent[] = [];
  /**
   * One entry for each program: the parameters that `writeParameters` set last. Undefined before
   * the first call for that program. A rollback needs these entries. A run that does not recover
   * from losses never rolls back, so its entries stay undefined.
   */
  readonly #written: (SavedParameters | undefined)[];
  /**
   * One entry for each program. The entry matters only for a program that takes its parameters from
   * another program (`parametersFrom`). It is true if that program must copy the parameters again
   * before its next step.
   */
  readonly #stale: boolean[];
  #state: MasterState;
  #waiter: Waiter | undefined;
  #failure: PodError | undefined;

  /** `now` returns the time, in ms, on a clock that never goes back. */
  constructor(options: PodOptions, masterOptions: MasterOptions, crew: Crew, now: () => number) {
    this.#options = options;
    this.#crew = crew;
    this.#now = now;
    this.#written = options.programs.map(() => undefined);
    this.#stale = options.programs.map(() => true);
    this.#state = initialMaster(masterOptions, this.#now(), options.start);
  }

  get state(): MasterState {
    return this.#state;
  }

  get isOver(): boolean {
    return isOver(this.#state);
  }

  /**
   * True if the run continues after the loss of a Cloud TPU. This is so for every recovery policy
   * except `none`.
   */
  get recovers(): boolean {
    return this.#state.options.recovery.policy !== 'none';
  }

  /** The error with which the run has failed; undefined if the run has not failed. */
  get failure(): PodError | undefined {
    return this.#failure;
  }

  /**
   * Resolves when the pod can run a step. If the run fails, rejects with the PodError of the
   * failure.
   */
  async untilReady(): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#state.phase.kind === 'ready') return;
    assert(this.#state.phase.kind !== 'done', 'the pod is closed');
    await this.#await();
  }

  /**
   * Runs the next step of a program. Resolves when the step is committed. If the run fails, rejects
   * with the PodError of the failure.
   */
  async step(program: number): Promise<Commit> {
    await this.untilReady();
    const takesParameters = at(this.#options.programs, program).parametersFrom !== undefined;
    const step = this.stepsOf(program);
    const takeParameters = takesParameters && at(this.#stale, program);
    const committed = this.#await();
    this.give({ kind: 'begin-step', order: { program, step, takeParameters } });
    const commit = await committed;
    assert(commit !== undefined, `step ${step} ended without a commit`);
    this.#stale[program] = false;
    this.#parametersChanged(program);
    return commit;
  }

  /** Number of committed steps of a program. */
  stepsOf(program: number): number {
    return at(this.#state.committed, program);
  }

  /** Records that all parameters of a program were set to `values` on every Cloud TPU. */
  wrote(program: number, values: readonly Uint8Array[]): void {
    this.#parametersChanged(program);
    if (!this.recovers) return;
    this.#written[program] = { steps: this.stepsOf(program), values };
    const { digested } = at(this.#options.programs, program);
    this.give({ kind: 'written', program, digest: digestOf(values.slice(0, digested)) });
  }

  /**
   * Passes an event to the state machine and performs the actions that the state machine returns.
   * An action can cause another event; that event waits until all of these actions are performed.
   */
  give(event: MasterEvent): void {
    if (this.#events.push(event) > 1) return;
    try {
      for (let next = this.#events[0]; next !== undefined; next = this.#events[0]) {
        this.#take(next);
        this.#events.shift();
      }
    } finally {
      this.#events.length = 0;
    }
  }

  /**
   * Reports to the state machine that a service for all Cloud TPUs has failed. `who` names the
   * service in the message, for example `the data loader`.
   */
  serviceFailed(who: string, error: unknown): void {
    this.give(failureOf(who, error));
  }

  #take(event: MasterEvent): void {
    if (this.isOver) return;
    const { state, actions } = this.#recorded(master(this.#state, event, this.#now()));
    this.#state = state;
    for (const action of actions) this.#perform(action);
  }

  /**
   * Returns `next`, a transition of the state machine. If `next` begins a new membership, the
   * number of the membership is first written to the log of the run. If that write fails, returns
   * another transition, which fails the run.
   */
  #recorded(next: Transition): Transition {
    const { generation } = next.state;
    if (generation === this.#state.generation) return next;
    try {
      this.#options.onMembership?.(generation);
      return next;
    } catch (error) {
      return master(this.#state, failureOf('the log of the run', error), this.#now());
    }
  }

  #perform(action: MasterAction): void {
    const crew = this.#crew;
    switch (action.kind) {
      case 'send':
        crew.send(action.tpu, action.message);
        break;
      case 'ready':
        this.#settle(undefined);
        break;
      case 'commit':
        crew.release(action.order);
        this.#settle(this.#commitOf(action));
        break;
      case 'repeated':
        crew.release(action.order);
        break;
      case 'refused':
        crew.refused(action.message, action.reason);
        break;
      case 'abort':
        crew.abort();
        break;
      case 'replace':
        crew.replace(action.tpu, action.isSilent);
        break;
      case 'adopt':
        crew.adopt(action.tpu, action.host);
        break;
      case 'reset':
        // After a reset, every program that takes its parameters from another program must copy
        // them again. A replacement worker has received only the parameters of programs that have
        // their own.
        this.#stale.fill(true);
        crew.reset(action.generation, action.steps);
        break;
      case 'rollback':
        this.#background(this.#rollBack(action.generation), 'the rollback to a checkpoint');
        break;
      case 'restore':
        this.#background(this.#restore(action), 'the copy of the parameters');
        break;
      case 'note':
        this.#options.onNote?.(action.note);
        break;
      case 'failed':
        this.#fail(new PodError(action.code, action.message));
        break;
      default:
        unreachable(action);
    }
  }

  /**
   * Lets `work` go on in the background. If `work` fails, the run fails. But if a new membership
   * has begun since this call, the failure of `work` is ignored. A new membership means that a
   * Cloud TPU was lost, which explains the failure.
   */
  #background(work: Promise<void>, who: string): void {
    const { generation } = this.#state;
    work.catch((error: unknown) => {
      if (generation === this.#state.generation) this.serviceFailed(who, error);
    });
  }

  async #restore({ tpu, from, generation }: MasterAction & { kind: 'restore' }): Promise<void> {
    if (from !== null) await this.#crew.restore(tpu, from, this.#state.steps);
    this.give({ kind: 'restored', tpu, generation });
  }

  /**
   * Sets the parameters of every Cloud TPU to the newest saved parameters. A program without saved
   * parameters gets the parameters that `writeParameters` set last, or zeros if there are none.
   */
  async #rollBack(generation: number): Promise<void> {
    const { committed, steps: before } = this.#state;
    const saved = await Promise.all(
      this.#options.programs.map((it, program) =>
        changes(it) ? this.#saved(program, at(committed, program)) : undefined,
      ),
    );
    const steps = saved.map((it, program) => it?.steps ?? at(before, program));
    if (generation !== this.#state.generation) return;
    await this.#crew.rollBack(saved, steps);
    this.give({ kind: 'rolled-back', generation, steps });
  }

  async #saved(program: number, steps: number): Promise<SavedParameters> {
    const saved = await this.#options.saved?.(program, steps);
    return saved ?? this.#written[program] ?? { steps: 0, values: [] };
  }

  #commitOf({ order, digest, reports }: MasterAction & { kind: 'commit' }): Commit {
    const wallMs = this.#now() - (this.#waiter?.sinceMs ?? 0);
    return { program: order.program, step: order.step, digest, reports, wallMs };
  }

  #await(): Promise<Commit | undefined> {
    assert(this.#waiter === undefined, 'one step at a time');
    return new Promise((resolve, reject) => {
      this.#waiter = { sinceMs: this.#now(), resolve, reject };
    });
  }

  #settle(commit: Commit | undefined): void {
    const waiter = this.#waiter;
    this.#waiter = undefined;
    waiter?.resolve(commit);
  }

  #fail(error: PodError): void {
    this.#failure = error;
    const waiter = this.#waiter;
    this.#waiter = undefined;
    this.#crew.close();
    waiter?.reject(error);
  }

  #parametersChanged(program: number): void {
    this.#options.programs.forEach(({ parametersFrom }, other) => {
      if (parametersFrom === program) this.#stale[other] = true;
    });
  }
}

/** True if a step of the program changes its parameters. */
function changes({ executable: { next, results, parameters } }: Program): boolean {
  return next !== undefined || results.some((id) => parameters.includes(id));
}

function failureOf(who: string, error: unknown): MasterEvent {
  return { kind: 'service-failed', who, code: codeOf(error), message: messageOf(error) };
}

/**
 * Returns the digest of `values`, in order. Cloud TPUs compute the digests that they report in the
 * same way, so the digests can be compared.
 */
function digestOf(values: readonly Uint8Array[]): string {
  const digested = values.reduce((before, value) => {
    const words = new Uint32Array(Math.ceil(value.length / 4));
    new Uint8Array(words.buffer).set(value);
    return digest(words, before);
  }, 0n);
  return digestText(digested);
}

/** Returns the name of a Cloud TPU in messages: `Cloud TPU 3 (x 1, y 1)`. */
export function nameOf({ columns }: Topology, tpu: number): string {
  return `Cloud TPU ${tpu} (x ${tpu % columns}, y ${Math.floor(tpu / columns)})`;
}

/** Returns the names of all Cloud TPUs of a slice, in order of their numbers. */
export function namesOf(topology: Topology): string[] {
  const tpus = topology.columns * topology.rows;
  return Array.from({ length: tpus }, (_, tpu) => nameOf(topology, tpu));
}
