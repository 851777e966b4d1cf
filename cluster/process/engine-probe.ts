import { trainProgram } from '../../src/experiment/program-index.ts';
import type { OnHop } from '../../src/fabric/lane.ts';
import { Injector } from '../../src/fault/injector.ts';
import { endsWorker, type Fault, isLinkFault } from '../../src/fault/plan.ts';
import type { StepOrder } from '../../src/pod/messages.ts';
import type { LinkFaults } from '../net/link-faults.ts';
import { endWorker, ledgerOf, type ProbeTask, sleep } from '../threads/probe.ts';

/**
 * Injects the faults of a plan at hops of an all-reduce, on the main thread of a worker's process,
 * where the all-reduces run. It exists only if a plan has faults for this Cloud TPU. The faults at
 * other positions are injected by the thread of the cores (`WorkerProbe`).
 */
export class EngineProbe {
  readonly #injector: Injector;
  readonly #links: LinkFaults | undefined;
  #order: StepOrder = { program: trainProgram, step: 0, takeParameters: false };

  /** `links` has the faults of links under way; undefined if the plan has none. */
  constructor(task: ProbeTask, links: LinkFaults | undefined) {
    this.#injector = new Injector(task.faults, ledgerOf(task));
    this.#links = links;
  }

  /** Sets the step to which the next hops belong. */
  begin(order: StepOrder): void {
    this.#order = order;
    if (order.program === trainProgram) this.#links?.stepBegins(order.step + 1);
  }

  /** Receives each hop before it is made. */
  readonly hop: OnHop = (bucket, phase, hop) => {
    if (this.#injector.isDone || this.#order.program !== trainProgram) return;
    const point = { kind: 'step', step: this.#order.step + 1, phase, bucket, hop } as const;
    for (const { fault } of this.#injector.reached(point)) {
      if (isLinkFault(fault)) this.#links?.begin(fault);
      else inject(fault);
    }
  };
}

function inject(fault: Fault): void {
  // `supported` refuses the other kinds at hops of a pod of processes.
  if (endsWorker(fault)) endWorker(fault.fault, true);
  else if (fault.fault === 'pause') sleep(fault.for.ms ?? 0);
}
