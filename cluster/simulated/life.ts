import type { EndingFault } from '../../src/fault/plan.ts';
import { at, unreachable } from '../../src/numerics/assert.ts';
import { codeOf, messageOf, PodError } from '../../src/numerics/error.ts';
import {
  checkToWorker,
  type FromWorker,
  type StepOrder,
  type ToWorker,
} from '../../src/pod/messages.ts';
import {
  initialWorker,
  type WorkerAction,
  type WorkerEvent,
  type WorkerState,
  worker,
} from '../../src/pod/worker.ts';
import { waitMsLimits } from '../limits.ts';
import type { Refusal } from '../net/frame.ts';
import { accusation, isSpoiled, troubleMs } from '../net/trouble.ts';
import type { Agenda } from './agenda.ts';
import type { Cores } from './cores.ts';
import type { SimulatedIci } from './ici.ts';
import type { Network } from './network.ts';
import { HopStop, type Wait } from './probe.ts';
import type { SimulatedTimes } from './times.ts';

/**
 * A task of a worker, such as one step or one load. It yields what the worker waits for. At its end
 * it returns the event for the worker's state machine, or undefined if there is none.
 */
type Work = Generator<Wait, WorkerEvent | undefined>;

/** Callbacks by which a worker tells the pod what it does. */
export interface LifeEvents {
  /** The worker sends a message to the master. */
  send(message: FromWorker): void;
  /** The worker has died and has sent no message about it. */
  died(reason: string, code: string | null): void;
}

/** Parts from which a worker is made. */
export interface LifeParts {
  readonly tpu: number;
  /** Number of the Cloud TPU whose worker has adopted this Cloud TPU; null if none has. */
  readonly host: number | null;
  readonly cores: Cores;
  readonly agenda: Agenda;
  readonly network: Network;
  readonly times: SimulatedTimes;
  /**
   * One entry for each program: the index of the program from which its parameters are copied, or
   * undefined if the program has parameters of its own.
   */
  readonly sources: readonly (number | undefined)[];
}

/**
 * A simulated worker of one Cloud TPU, from its start to its end: the worker's state machine, and
 * the tasks that the actions of the state machine ask for. The worker that replaces this worker is
 * another `Life`.
 */
export class Life {
  readonly tpu: number;
  readonly host: number | null;
  readonly cores: Cores;
  readonly #parts: LifeParts;
  readonly #events: LifeEvents;
  #state: WorkerState;
  #work: Work | undefined;
  /**
   * Bucket whose sum the worker waits for, and the virtual time, in microseconds, at which this
   * wait began; undefined if the worker waits for no sum.
   */
  #awaited: { readonly bucket: number; readonly sinceUs: number } | undefined;
  #isStill = false;
  #isOver = false;
  #progress = 0;
  /** True once the worker has told a master that it has started. */
  #hasStarted = false;
  /** Messages that have arrived while the worker pauses or hangs because of a fault. */
  readonly #held: ToWorker[] = [];

  constructor(parts: LifeParts, events: LifeEvents) {
    this.tpu = parts.tpu;
    this.host = parts.host;
    this.cores = parts.cores;
    this.#parts = parts;
    this.#events = events;
    this.#state = initialWorker(
      parts.tpu,
      parts.sources.map((source) => source !== undefined),
    );
  }

  /** Starts the worker, which joins the pod. `generation` is the pod's present generation. */
  start(generation: number): void {
    this.#begin(this.#joining(generation));
  }

  /** Ends the worker, which sends no message about its end. */
  end(): void {
    this.#isOver = true;
    this.#work = undefined;
    this.#leaveLinks();
  }

  /** Number of the Cloud TPU on whose machine the worker runs. */
  get site(): number {
    return this.host ?? this.tpu;
  }

  get isOver(): boolean {
    return this.#isOver;
  }

  /**
   * Returns the worker's progress counter. If the counter of a worker no longer grows, the master
   * takes the worker for lost. A worker that waits for a neighbour's frame is not lost, so its
   * counter grows at each call.
   */
  sample(): number {
    if (this.#awaited !== undefined && !this.#isStill) {
      this.#progress++;
      this.#checkDeadline(this.#awaited);
    }
    return this.#progress;
  }

  /**
   * Called when the worker has connected with a new master. If the worker has started completely,
   * it reports its state to the new master.
   */
  greet(generation: number): void {
    if (this.#hasStarted) this.receive({ kind: 'greet', generation });
  }

  receive(message: ToWorker): void {
    if (this.#isOver) return;
    if (this.#isStill) this.#held.push(message);
    else this.#give({ kind: 'message', message: checkToWorker(message) });
  }

  /**
   * Copies parameters from another worker, then calls `done`. If one of the two workers ends during
   * the copy, or a newer membership begins, `done` is never called.
   */
  takeParameters(from: Life, generation: number, steps: readonly number[], done: () => void): void {
    if (!this.#isOver) this.#begin(this.#restoring(from, generation, steps, done));
  }

  // ------------------------------------------------------------------------------- state machine

  #give(event: WorkerEvent): void {
    if (this.#isOver) return;
    const { state, actions } = worker(this.#state, event);
    this.#state = state;
    for (const action of actions) this.#perform(action);
  }

  #perform(action: WorkerAction): void {
    switch (action.kind) {
      case 'send':
        this.#events.send(action.message);
        break;
      case 'load':
        this.#begin(this.#loading(action.generation, action.steps));
        break;
      case 'run':
        this.#begin(this.#stepping(action.order));
        break;
      case 'interrupt':
        this.#work = undefined;
        this.#awaited = undefined;
        this.cores.ici?.standStill();
        this.#give({ kind: 'interrupted' });
        break;
      case 'end':
        this.end();
        break;
      default:
        unreachable(action);
    }
  }

  // ---------------------------------------------------------------------------------------- work

  *#joining(generation: number): Work {
    yield* this.cores.probe.reach({ kind: 'membership', phase: 'joining', generation });
    this.#hasStarted = true;
    return { kind: 'started' };
  }

  *#loading(generation: number, steps: readonly number[]): Work {
    this.#joinLinks(generation);
    yield* this.cores.probe.reach({ kind: 'membership', phase: 'loading', generation });
    yield { kind: 'work', us: this.#parts.times.load };
    return { kind: 'loaded', digests: this.cores.weights.digests(steps) };
  }

  *#stepping(order: StepOrder): Work {
    return { kind: 'ran', report: yield* this.cores.run(order, this.#sourceSteps(order)) };
  }

  /**
   * If the program of the given step copies its weights from another program, returns how many
   * steps the other program has done. Otherwise returns 0.
   */
  #sourceSteps({ program }: StepOrder): number {
    const source = this.#parts.sources[program];
    return source === undefined ? 0 : at(this.#state.next, source);
  }

  *#restoring(from: Life, generation: number, steps: readonly number[], done: () => void): Work {
    yield* this.cores.probe.reach({ kind: 'membership', phase: 'restoring', generation });
    yield { kind: 'work', us: this.#parts.times.copy };
    if (from.isOver) return undefined;
    this.cores.weights.copy(from.cores.weights, steps);
    done();
    return undefined;
  }

  #begin(work: Work): void {
    this.#work = work;
    this.#advance(work);
  }

  /**
   * Runs the given task until the task waits or ends. Does nothing if the worker has ended or has
   * begun another task.
   */
  #advance(work: Work): void {
    if (this.#isOver || this.#work !== work) return;
    this.#awaited = undefined;
    this.#progress++;
    const { done, value } = work.next();
    if (done) {
      this.#work = undefined;
      if (value !== undefined) this.#give(value);
    } else this.#wait(work, value);
  }

  #wait(work: Work, wait: Wait): void {
    const { agenda } = this.#parts;
    switch (wait.kind) {
      case 'work':
        agenda.after(this.cores.probe.stretched(wait.us), () => this.#advance(work));
        break;
      case 'stand':
        this.#standStill();
        agenda.after(wait.us, () => {
          this.#wake();
          this.#advance(work);
        });
        break;
      case 'sum':
        this.#awaited = { bucket: wait.bucket, sinceUs: agenda.nowUs };
        this.#checkLinks();
        break;
      case 'end':
        this.#finish(wait.how);
        break;
      default:
        unreachable(wait);
    }
  }

  #standStill(): void {
    this.#isStill = true;
    this.cores.ici?.standStill();
  }

  /**
   * Ends a pause: the links go on, and the worker takes the messages that arrived during the pause.
   */
  #wake(): void {
    if (this.#isOver) return;
    this.#isStill = false;
    this.cores.ici?.goOn();
    for (const message of this.#held.splice(0)) this.receive(message);
  }

  #finish(how: EndingFault): void {
    switch (how) {
      case 'hang':
        this.#standStill();
        break;
      case 'throw':
        this.#give({ kind: 'threw', code: null, message: 'Error: injected fault' });
        break;
      case 'out-of-memory':
        this.#die('a worker ran out of memory', 'out-of-memory');
        break;
      case 'kill':
      case 'exit':
        this.#die('the worker ended unexpectedly', null);
        break;
      default:
        unreachable(how);
    }
  }

  // --------------------------------------------------------------------------------------- links

  #joinLinks(generation: number): void {
    this.#leaveLinks();
    const ici = this.cores.join(generation);
    this.#parts.network.join(ici, {
      moved: () => this.#checkLinks(),
      trouble: (peer, refusal) => this.#reportTrouble(ici, peer, refusal),
    });
  }

  #leaveLinks(): void {
    const { ici } = this.cores;
    if (ici !== undefined && !ici.isOver) this.#parts.network.leave(ici);
  }

  /**
   * Called when the sum that the step waits for may be complete. If it is complete, the step goes
   * on. If the all-reduce has failed, the step ends with an error. If a fault has stopped the
   * all-reduce, the worker stops too.
   */
  #checkLinks(): void {
    const { ici } = this.cores;
    if (this.#isOver || this.#isStill || ici === undefined) return;
    const { error } = ici;
    if (error instanceof HopStop) this.#stopAtHop(error.waits);
    else if (error !== undefined) this.#fail(error);
    else if (this.#awaited !== undefined && ici.isDone(this.#awaited.bucket)) {
      if (this.#work !== undefined) this.#advance(this.#work);
    }
  }

  /**
   * Called when faults of the plan have stopped an all-reduce. First, the worker stands still for
   * the total length of the pauses that these faults demand. Then, if one of the faults ends the
   * worker, that fault takes effect. Otherwise the worker goes on.
   */
  #stopAtHop(waits: readonly Wait[]): void {
    this.#standStill();
    const us = waits.reduce((sum, wait) => sum + (wait.kind === 'stand' ? wait.us : 0), 0);
    const end = waits.find((wait) => wait.kind === 'end');
    this.#parts.agenda.after(us, () => {
      if (this.#isOver) return;
      if (end !== undefined) {
        this.#finish(end.how);
        return;
      }
      this.#wake();
      this.#checkLinks();
    });
  }

  /** Ends the step because an all-reduce has failed with `error`. */
  #fail(error: unknown): void {
    if (!(error instanceof PodError)) throw error;
    this.#work = undefined;
    this.#awaited = undefined;
    this.cores.ici?.standStill();
    this.#give({ kind: 'threw', code: codeOf(error), message: messageOf(error) });
  }

  #checkDeadline({ bucket, sinceUs }: { bucket: number; sinceUs: number }): void {
    const { ici } = this.cores;
    const isLate = this.#parts.agenda.nowUs - sinceUs > 1000 * waitMsLimits.fast;
    if (isLate && ici !== undefined) this.#fail(ici.timeout(bucket));
  }

  /**
   * Reports to the master that the connection with a peer has failed. If the reason is corrupt
   * data, the report is sent at once. Otherwise it is sent after `troubleMs`, provided that the
   * worker is then still in the same membership.
   */
  #reportTrouble(ici: SimulatedIci, peer: number, refusal: Refusal): void {
    const accuse = (): void => {
      if (this.#isOver || this.#isStill || ici !== this.cores.ici) return;
      this.#events.send(accusation(this.tpu, ici.generation, peer, refusal));
    };
    if (isSpoiled(refusal)) accuse();
    else this.#parts.agenda.after(1000 * troubleMs, accuse);
  }

  #die(reason: string, code: string | null): void {
    this.end();
    this.#events.died(reason, code);
  }
}
