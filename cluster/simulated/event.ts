import type { Fault } from '../../src/fault/plan.ts';
import type { CommitSeen } from '../../src/fault/verdict.ts';
import type { Note } from '../../src/pod/master/action.ts';
import type { MasterEvent } from '../../src/pod/master/event.ts';
import type { FromWorker, ToWorker } from '../../src/pod/messages.ts';
import type { Traffic } from './network.ts';

/** An event of the simulation, and its virtual time. */
export type SimulatedEvent = Happening & { readonly ms: number };

/** Event: a step was committed. `traffic` is all traffic since the start of the pod. */
export interface Committed {
  readonly ms: number;
  readonly event: 'committed';
  readonly commit: CommitSeen;
  readonly traffic: Traffic;
}

/** What happens in a simulation. */
export type Happening =
  /**
   * The worker of Cloud TPU `tpu` starts. If another worker has adopted this Cloud TPU, `host` is
   * the number of that worker's own Cloud TPU, otherwise null.
   */
  | { readonly event: 'started'; readonly tpu: number; readonly host: number | null }
  /** The worker of a Cloud TPU, which runs already, connects with another master. */
  | { readonly event: 'connected'; readonly tpu: number }
  /** The pod ends the worker of a Cloud TPU, because a new worker will replace it. */
  | { readonly event: 'ended'; readonly tpu: number }
  | { readonly event: 'injected'; readonly index: number; readonly fault: Fault }
  /** A message of the master has arrived at a worker. */
  | { readonly event: 'delivered'; readonly tpu: number; readonly message: ToWorker }
  /** A message of a worker, or a report that the worker has died, has arrived at the master. */
  | { readonly event: 'reported'; readonly tpu: number; readonly report: MasterEvent }
  /** The master has ignored a message. */
  | { readonly event: 'refused'; readonly message: FromWorker; readonly reason: string }
  | { readonly event: 'noted'; readonly note: Note }
  /** A master begins. Masters are numbered from 1. */
  | { readonly event: 'master-began'; readonly master: number }
  /** A master has ended. `how` is `done`, `killed`, or the code of the error that ended it. */
  | { readonly event: 'master-ended'; readonly master: number; readonly how: string };
