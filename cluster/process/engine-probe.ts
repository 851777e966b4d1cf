import { trainProgram } from '../../src/experiment/program-index.ts';
import type { OnHop } from '../../src/fabric/lane.ts';
import { Injector } from '../../src/fault/injector.ts';
import { endsWorker, type Fault, isLinkFault } from '../../src/fault/plan.ts';
import type { StepOrder } from '../../src/pod/messages.ts';
import { askOutside } from '../containers/request.ts';
import { blockThread } from '../host/block-thread.ts';
import type { LinkFaults } from '../net/link-faults.ts';
import { endWorker, ledgerOf, type ProbeTask } from '../runtime/probe.ts';

/**
 * Injects those faults of the fault plan that begin at a hop of an all-reduce. Runs on the main
 * thread of a worker's process, as the all-reduces do. Exists only if the plan has faults for this
 * Cloud TPU. Other faults are injected by the thread of the cores (`WorkerProbe`).
 */
export class EngineProbe {
  readonly #injector: Injector;
  readonly #requests: string | undefined;
  readonly #links: LinkFaults | undefined;
  #order: StepOrder = { program: trainProgram, step: 0, takeParameters: false };

  /**
   * `links` injects the faults of links that have begun; undefined if the plan has no faults of
   * links.
   */
  constructor(task: ProbeTask, links: LinkFaults | undefined) {
    this.#injector = new Injector(task.faults, ledgerOf(task));
    this.#requests = task.requests;
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
    for (const { fault } of askOutside(this.#requests, this.#injector.reached(point))) {
      if (isLinkFault(fault)) this.#links?.begin(fault);
      else inject(fault);
    }
  };
}

function inject(fault: Fault): void {
  // Other kinds of faults cannot occur here: the check of the fault plan refuses them at hops in a
  // pod of processes.
  if (endsWorker(fault)) endWorker(fault.fault, true);
  else if (fault.fault === 'pause') blockThread(fault.for.ms ?? 0);
}
