import type { FromWorker, StepOrder } from '../messages.ts';

/** An event for the master's state machine. */
export type MasterEvent =
  | { readonly kind: 'message'; readonly message: FromWorker }
  /** The experiment requests a step. Allowed only in the phase `ready`. */
  | { readonly kind: 'begin-step'; readonly order: StepOrder }
  /**
   * The worker of a Cloud TPU is gone: its thread ended, its socket closed, or its process ended
   * before it could join. This event is not sent for a worker that has already been replaced.
   * `code` is the code of the error that the worker reported, if there is one.
   */
  | {
      readonly kind: 'exited';
      readonly tpu: number;
      readonly reason: string;
      readonly code?: string | null;
    }
  /**
   * A service that all Cloud TPUs use has failed. `who` names it, for example `the data loader`.
   */
  | {
      readonly kind: 'service-failed';
      readonly who: string;
      readonly code: string | null;
      readonly message: string;
    }
  /** Answer to the action `restore`: the Cloud TPU now has the parameters. */
  | { readonly kind: 'restored'; readonly tpu: number; readonly generation: number }
  /**
   * Answer to the action `rollback`: saved parameters were found and set on all Cloud TPUs.
   * `steps` has, for each program by its index, the number of steps applied to the saved
   * parameters.
   */
  | { readonly kind: 'rolled-back'; readonly generation: number; readonly steps: readonly number[] }
  /**
   * The experiment has set a program's parameters, in the phase `ready`. `digest` is the digest of
   * the new weights, or null if it is unknown.
   */
  | { readonly kind: 'written'; readonly program: number; readonly digest: string | null }
  /**
   * A sample of counters, sent at regular intervals. `progress` and `heartbeats` have one counter
   * for each Cloud TPU, by its number. A counter of `progress` grows while the Cloud TPU works. A
   * counter of `heartbeats` grows with every message from the process of the Cloud TPU, whether the
   * Cloud TPU works or not. `heartbeats` is absent in a pod of threads.
   */
  | {
      readonly kind: 'sample';
      readonly progress: readonly number[];
      readonly heartbeats?: readonly number[];
    }
  | { readonly kind: 'stop' };
