import type { FromWorker, StepOrder } from '../messages.ts';

/** An event for the master's state machine. */
export type MasterEvent =
  | { readonly kind: 'message'; readonly message: FromWorker }
  /** The experiment requests a step. Allowed only in the phase `ready`. */
  | { readonly kind: 'begin-step'; readonly order: StepOrder }
  /**
   * The worker of a Cloud TPU is gone: its thread ended, its socket closed, or its process ended
   * before it could join. Not sent for a worker that was replaced already. `code` is the code of
   * the error that the worker reported, if any.
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
   * Sent at regular intervals. `progress` and `heartbeats` have one counter for each Cloud TPU, by
   * its number. A counter in `progress` grows with the work of the Cloud TPU. A counter in
   * `heartbeats` grows with every message of the Cloud TPU's process, so the master also notices
   * the loss of an idle Cloud TPU. A pod of threads has no heartbeats.
   */
  | {
      readonly kind: 'sample';
      readonly progress: readonly number[];
      readonly heartbeats?: readonly number[];
    }
  | { readonly kind: 'stop' };
