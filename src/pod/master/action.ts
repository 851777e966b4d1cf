import type { ErrorCode } from '../../numerics/error.ts';
import type { FromWorker, StepOrder, StepReport, ToWorker } from '../messages.ts';

/** An action for the driver of a master. The driver performs the actions of a list in order. */
export type MasterAction =
  | { readonly kind: 'send'; readonly tpu: number; readonly message: ToWorker }
  /** Steps may begin: all Cloud TPUs have loaded, at the start or after a recovery. */
  | { readonly kind: 'ready' }
  /**
   * The step is committed: all replicas have the same weights. `reports` has one report for each
   * Cloud TPU, in order of Cloud TPU numbers.
   */
  | {
      readonly kind: 'commit';
      readonly order: StepOrder;
      readonly digest: string;
      readonly reports: readonly StepReport[];
    }
  /**
   * A step that was committed before has run again after a rollback. The infeed samples of the step
   * can be released.
   */
  | { readonly kind: 'repeated'; readonly order: StepOrder }
  /** The master has ignored a message that does not fit its state. The driver logs the message. */
  | { readonly kind: 'refused'; readonly message: FromWorker; readonly reason: string }
  /** End every wait of every worker, because the step or the run has been given up. */
  | { readonly kind: 'abort' }
  /**
   * Let a replacement of the lost worker of Cloud TPU `tpu` start and join. If the lost worker
   * still runs, end it first.
   */
  | { readonly kind: 'replace'; readonly tpu: number }
  /**
   * Ask the worker of Cloud TPU `host` to host Cloud TPU `tpu` too and to join for it, because no
   * worker has joined for Cloud TPU `tpu` in time.
   */
  | { readonly kind: 'adopt'; readonly tpu: number; readonly host: number }
  /**
   * Make new links and infeed queues for the membership `generation`. No Cloud TPU runs a step at
   * this moment. `steps[i]` is the number of steps that have been applied to the parameters of
   * program i.
   */
  | { readonly kind: 'reset'; readonly generation: number; readonly steps: readonly number[] }
  /**
   * Find saved parameters and set them on all Cloud TPUs, because no Cloud TPU has the current
   * parameters. The driver answers with the event `rolled-back`.
   */
  | { readonly kind: 'rollback'; readonly generation: number }
  /**
   * Copy the parameters to Cloud TPU `tpu` from Cloud TPU `from`. If `from` is null, copy nothing,
   * because the rollback has set the parameters already. The driver answers with the event
   * `restored`.
   */
  | {
      readonly kind: 'restore';
      readonly generation: number;
      readonly tpu: number;
      readonly from: number | null;
    }
  | { readonly kind: 'note'; readonly note: Note }
  | { readonly kind: 'failed'; readonly code: ErrorCode; readonly message: string };

/** The faults and the stages of a recovery that a {@link Note} can name. */
export const noteEvents = [
  /** A Cloud TPU is lost. */
  'lost',
  /**
   * A Cloud TPU has wrong weights or has sent a corrupt frame. Or the Cloud TPUs have different
   * digests of the weights, and no digest has a majority.
   */
  'suspected',
  /** The Cloud TPU was at fault a second time and is being replaced. */
  'quarantined',
  /** No worker joined for the Cloud TPU in time. Another worker hosts it too. */
  'adopted',
  /** A replacement has joined for the Cloud TPU. */
  'replaced',
  /** The Cloud TPU has received the parameters. */
  'restored',
  /** All copies of the parameters were lost. Steps since a checkpoint run again. */
  'rolled-back',
  /** The recovery is complete. */
  'resumed',
] as const;

/** An event for the user: a fault, or a stage of the recovery from a fault. */
export interface Note {
  readonly event: (typeof noteEvents)[number];
  readonly generation: number;
  /** Program of the step that runs or was interrupted; null between steps. */
  readonly program: number | null;
  readonly step: number | null;
  /** Number of the Cloud TPU that the event concerns; null for the whole slice. */
  readonly tpu: number | null;
  readonly cause: string;
  /** Time, in ms, since the first loss or fault of this recovery. */
  readonly elapsedMs: number;
}

/** True if the event reports a fault. The other events are stages of a recovery. */
export function isReport({ event }: Note): boolean {
  return event === 'lost' || event === 'suspected' || event === 'quarantined';
}

/**
 * Returns the number of the Cloud TPU that loses its worker, if the event is `lost` or
 * `quarantined`. Returns null for every other event.
 */
export function lostTpu({ event, tpu }: Note): number | null {
  return event === 'lost' || event === 'quarantined' ? tpu : null;
}
