import type { Ports } from '../../src/chip/ports.ts';
import { evaluateProgram, trainProgram } from '../../src/experiment/program-index.ts';
import type { OnHop } from '../../src/fabric/lane.ts';
import type { CollectivePhase } from '../../src/fabric/plan.ts';
import { endOf, type IsOver } from '../../src/fault/duration.ts';
import {
  type Due,
  Injector,
  type Ledger,
  type Point,
  sharedLedger,
} from '../../src/fault/injector.ts';
import { type EndingFault, endsWorker, type Fault, type StepPhase } from '../../src/fault/plan.ts';
import { phases } from '../../src/isa/executable.ts';
import { at } from '../../src/numerics/assert.ts';
import type { StepOrder } from '../../src/pod/messages.ts';
import { askOutside } from '../containers/request.ts';
import { blockThread } from '../host/block-thread.ts';
import { absoluteMs, fileLedger } from './fault-file.ts';

/** The faults of a plan that concern one Cloud TPU, as its thread receives them. */
export interface ProbeTask {
  readonly faults: readonly Due[];
  /**
   * Place where all workers record which faults of the plan were injected. If the workers are
   * threads, it is a shared memory; if they are processes, it is the path of a file.
   */
  readonly ledger: SharedArrayBuffer | string;
  /**
   * True if the thread is the only one of its process, so that the fault `kill` ends the process.
   */
  readonly ownsProcess: boolean;
  /**
   * Folder through which a worker in a container asks `pod chaos run` to inject faults; see
   * `FaultFile.requests`. Undefined outside of containers.
   */
  readonly requests?: string;
}

/** Memory of a Cloud TPU, and the places in it where a fault can flip a bit. */
export interface ProbeMemory {
  readonly memory: WebAssembly.Memory;
  /** Byte address of a bucket's sum. `bucket` is its index among the buckets of the program. */
  bucket(program: number, bucket: number): number;
  /** Byte address of the weights that the step of `order` reads. */
  weights(order: StepOrder): number;
  /** Byte address of the given program's arena, the memory of its buffers. */
  arena(program: number): number;
}

/**
 * Injects the faults of a plan into the thread of one Cloud TPU. A thread has a WorkerProbe only if
 * the plan has faults for its Cloud TPU.
 */
export class WorkerProbe {
  readonly #injector: Injector;
  readonly #ownsProcess: boolean;
  readonly #requests: string | undefined;
  readonly #memory: ProbeMemory;
  readonly #now: () => number;
  #order: StepOrder = { program: trainProgram, step: 0, takeParameters: false };
  /** Indices of the buckets whose sums are complete so far in the running step. */
  readonly #summed: number[] = [];
  /**
   * The `slow` fault under way: every instruction takes `factor` times as long, until `isOver`
   * returns true. Undefined if no such fault is under way.
   */
  #slow: { readonly factor: number; readonly isOver: IsOver } | undefined;
  #lastMs = 0;
  #clockMs = 0;

  constructor(task: ProbeTask, memory: ProbeMemory, now: () => number) {
    this.#injector = new Injector(task.faults, ledgerOf(task));
    this.#ownsProcess = task.ownsProcess;
    this.#requests = task.requests;
    this.#memory = memory;
    this.#now = now;
  }

  /**
   * Returns the time, in ms, on the clock of the Cloud TPU. Faults of the kind `clock-jump` change
   * this clock.
   */
  readonly now = (): number => this.#now() + this.#clockMs;

  /**
   * Called when the Cloud TPU enters the membership with the number `generation`. Injects the
   * faults that the plan has for this moment.
   */
  loading(generation: number): void {
    this.#reach({ kind: 'membership', phase: 'loading', generation });
  }

  /** Called when a step begins. */
  begin(order: StepOrder): void {
    this.#order = order;
    this.#summed.length = 0;
    this.#lastMs = this.#now();
    if (order.program === evaluateProgram) this.#reach(this.#point('evaluate'));
  }

  /**
   * Wraps the ports of a program so that the plan's faults are injected during its steps. `buckets`
   * is how many buckets the program has.
   */
  ports(ports: Ports, buckets: number): Ports {
    const { ici } = ports;
    return {
      ...ports,
      ici: {
        ...ici,
        finish: (collective) => {
          ici.finish(collective);
          if (collective < buckets) this.#summed.push(collective);
        },
      },
      beat: () => {
        ports.beat();
        this.#dawdle();
      },
      enter: (phase) => {
        const name = at(phases, phase);
        // A program may update some weights before all gradients are summed. For the fault plan,
        // the phase `update` begins only when all gradients are summed, so an earlier update is
        // ignored here.
        const isEarly = name === 'update' && this.#summed.length < buckets;
        if (name !== 'all-reduce' && !isEarly) this.#enter(name);
      },
    };
  }

  /**
   * Called before each hop of an all-reduce, in which the Cloud TPU receives a frame, sends a
   * frame, or does both. `bucket` is the index of the bucket among the buckets of all programs.
   */
  readonly hop: OnHop = (bucket: number, phase: CollectivePhase, hop: number): void => {
    if (this.#order.program === evaluateProgram) return;
    this.#reach({ ...this.#point(phase), bucket, hop });
  };

  #enter(phase: StepPhase): void {
    if (this.#order.program !== evaluateProgram) this.#reach(this.#point(phase));
  }

  #point(phase: StepPhase): Point & { readonly kind: 'step' } {
    return { kind: 'step', step: this.#order.step + 1, phase };
  }

  #reach(point: Point): void {
    if (this.#injector.isDone) return;
    const due = askOutside(this.#requests, this.#injector.reached(point));
    for (const { fault } of due) this.#inject(fault);
  }

  #inject(fault: Fault): void {
    if (endsWorker(fault)) endWorker(fault.fault, this.#ownsProcess);
    switch (fault.fault) {
      case 'pause':
        blockThread(fault.for.ms ?? 0);
        break;
      case 'slow':
        this.#slow = {
          factor: fault.factor,
          isOver: endOf(fault.for, this.#order.step, this.#now()),
        };
        break;
      case 'clock-jump':
        this.#clockMs += fault.ms;
        break;
      case 'flip-bit':
        this.#flip(fault);
        break;
      default:
        // Faults of other kinds are not injected by the thread of a Cloud TPU.
        break;
    }
  }

  /**
   * Called after each instruction. If a `slow` fault is under way, sleeps until the instruction has
   * taken `factor` times as long as it would have taken without the fault.
   */
  #dawdle(): void {
    if (this.#slow === undefined) return;
    const nowMs = this.#now();
    if (this.#slow.isOver(this.#order.step, nowMs)) {
      this.#slow = undefined;
      return;
    }
    blockThread((nowMs - this.#lastMs) * (this.#slow.factor - 1));
    this.#lastMs = this.#now();
  }

  #flip(fault: Fault & { readonly fault: 'flip-bit' }): void {
    const words = new Uint32Array(this.#memory.memory.buffer);
    const { bit = 20 } = fault;
    const word = this.#address(fault) / 4 + Math.floor(bit / 32);
    words[word] = words[word]! ^ (1 << (bit % 32));
  }

  #address(fault: Fault & { readonly fault: 'flip-bit' }): number {
    const { program } = this.#order;
    switch (fault.in) {
      case 'reduce-buffer':
        return this.#memory.bucket(program, this.#summed[0] ?? 0);
      case 'weights':
        return this.#memory.weights(this.#order);
      case 'hbm':
      case 'frame':
        return this.#memory.arena(program);
    }
  }
}

/** Returns the record of the injected faults, in a file or in shared memory. */
export function ledgerOf({ ledger }: ProbeTask): Ledger {
  return typeof ledger === 'string' ? fileLedger(ledger) : sharedLedger(ledger, absoluteMs);
}

/**
 * Ends this thread, or makes it hang, as the fault `how` demands. If the thread is the only one of
 * its process, `ownsProcess` is true. The fault `kill` then kills the process.
 */
export function endWorker(how: EndingFault, ownsProcess: boolean): void {
  if (how === 'throw') throw new Error('injected fault');
  if (how === 'hang') blockThread(Number.POSITIVE_INFINITY);
  if (how === 'out-of-memory') exhaustHeap();
  if (how === 'kill' && ownsProcess) process.kill(process.pid, 'SIGKILL');
  process.exit(how === 'kill' ? 9 : 7);
}

/** Fills the heap of this thread until the engine ends the thread. */
function exhaustHeap(): void {
  const held: unknown[] = [];
  for (;;) held.push(new Array(1 << 16).fill(held.length));
}
