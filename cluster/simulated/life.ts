import { at, unreachable } from '../../src/numerics/assert.ts';
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
import type { Agenda } from './agenda.ts';
import type { Axis, Cores, Frame } from './cores.ts';
import type { Ending, Wait } from './probe.ts';
import type { SimulatedTimes } from './times.ts';

/** Work of a worker. It returns the event with which it ends, or undefined if there is none. */
type Work = Generator<Wait, WorkerEvent | undefined>;

/** What the pod does for a worker. */
export interface LifeEvents {
  /** The worker sends a message to the master. */
  send(message: FromWorker): void;
  /** The worker has died without a message. */
  died(reason: string, code: string | null): void;
}

/** What a worker is made of. */
export interface LifeParts {
  readonly tpu: number;
  /** The Cloud TPU whose worker hosts this one too; null if this one has a worker of its own. */
  readonly host: number | null;
  readonly cores: Cores;
  readonly agenda: Agenda;
  readonly times: SimulatedTimes;
  /** By program, the program from which it copies its parameters; undefined if it has its own. */
  readonly sources: readonly (number | undefined)[];
}

/**
 * A simulated worker of one Cloud TPU, from its start to its end: the worker's state machine, and
 * the work that its actions ask for. A replacement is another Life.
 */
export class Life {
  readonly tpu: number;
  readonly host: number | null;
  readonly cores: Cores;
  readonly #parts: LifeParts;
  readonly #events: LifeEvents;
  #state: WorkerState;
  #work: Work | undefined;
  #awaited: Axis | undefined;
  #isStill = false;
  #isOver = false;
  #progress = 0;
  /** Messages that arrived while the worker stood still. */
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

  /** Starts the worker, which joins. `generation` is that of the membership that it finds. */
  start(generation: number): void {
    this.#begin(this.#joining(generation));
  }

  /** Ends the worker without a word. */
  end(): void {
    this.#isOver = true;
    this.#work = undefined;
  }

  get isOver(): boolean {
    return this.#isOver;
  }

  /**
   * Returns the progress counter. As in the other pods, a worker that waits for a neighbour counts
   * as one that makes progress: the neighbour is to blame.
   */
  sample(): number {
    if (this.#awaited !== undefined) this.#progress++;
    return this.#progress;
  }

  receive(message: ToWorker): void {
    if (this.#isOver) return;
    if (this.#isStill) this.#held.push(message);
    else this.#give({ kind: 'message', message: checkToWorker(message) });
  }

  arrive(axis: Axis, frame: Frame): void {
    if (this.#isOver) return;
    this.cores.arrive(axis, frame);
    if (this.#awaited !== axis || !this.cores.hasFrame(axis) || this.#work === undefined) return;
    this.#advance(this.#work);
  }

  /**
   * Copies parameters from another worker, and calls `done`. Never calls it if either of the two
   * ends, or if a newer membership begins.
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
    return { kind: 'started' };
  }

  *#loading(generation: number, steps: readonly number[]): Work {
    this.cores.join(generation);
    yield* this.cores.probe.reach({ kind: 'membership', phase: 'loading', generation });
    yield { kind: 'work', us: this.#parts.times.load };
    return { kind: 'loaded', digests: this.cores.weights.digests(steps) };
  }

  *#stepping(order: StepOrder): Work {
    return { kind: 'ran', report: yield* this.cores.run(order, this.#sourceSteps(order)) };
  }

  /** Number of steps applied to the program from which the program of a step takes its weights. */
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

  /** Goes on with a work until it has to wait. Does nothing if other work has begun since. */
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
        this.#isStill = true;
        agenda.after(wait.us, () => this.#wake(work));
        break;
      case 'frame':
        this.#awaited = wait.axis;
        break;
      case 'end':
        this.#finish(wait.how);
        break;
      default:
        unreachable(wait);
    }
  }

  /** Ends a time in which the worker stood still. */
  #wake(work: Work): void {
    this.#isStill = false;
    for (const message of this.#held.splice(0)) this.receive(message);
    this.#advance(work);
  }

  #finish(how: Ending): void {
    switch (how) {
      case 'hang':
        this.#isStill = true;
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

  #die(reason: string, code: string | null): void {
    this.end();
    this.#events.died(reason, code);
  }
}
