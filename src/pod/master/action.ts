import type { ErrorCode } from '../../numerics/error.ts';
import type { FromWorker, StepOrder, StepReport, ToWorker } from '../messages.ts';

/** An action for the driver of a master. The driver performs the actions of a list in order. */
export type MasterAction =
  | { readonly kind: 'send'; readonly tpu: number; readonly message: ToWorker }
  /**
   * All Cloud TPUs have loaded their programs, at the start or after a recovery. Steps may begin.
   */
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
  /** End every wait of every worker, because a new membership begins or the run has failed. */
  | { readonly kind: 'abort' }
  /**
   * The worker of Cloud TPU `tpu` is lost. If this worker still runs, end it. Then let a new worker
   * start and join for Cloud TPU `tpu`.
   *
   * `isSilent` is true if the worker has only fallen silent, for example because the network was
   * down. Such a worker may keep its parameters and join again, if nobody else has joined before.
   */
  | { readonly kind: 'replace'; readonly tpu: number; readonly isSilent: boolean }
  /**
   * No worker has joined for Cloud TPU `tpu` in time. Ask the worker of Cloud TPU `host` to host
   * Cloud TPU `tpu` too, and to join for it.
   */
  | { readonly kind: 'adopt'; readonly tpu: number; readonly host: number }
  /**
   * Make new links and infeed queues for the membership `generation`. No Cloud TPU runs a step at
   * this moment. `steps[i]` is the number of steps that the parameters of program i already
   * contain. Program 0 is the training, program 1 the evaluation.
   */
  | { readonly kind: 'reset'; readonly generation: number; readonly steps: readonly number[] }
  /**
   * Find saved parameters and set them on all Cloud TPUs, because no Cloud TPU has the current
   * parameters. The driver answers with the event `rolled-back`.
   */
  | { readonly kind: 'rollback'; readonly generation: number }
  /**
   * Copy the parameters from Cloud TPU `from` to Cloud TPU `tpu`. If `from` is null, copy nothing,
   * because a rollback has already set the parameters. In both cases the driver then answers with
   * the event `restored`.
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
   * A Cloud TPU is suspected of a fault: it has wrong weights or has sent a corrupt frame. Or no
   * single Cloud TPU is suspected: the digests of the weights differ, and no digest has a majority.
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
  /**
   * No Cloud TPU had the current parameters any more, so all Cloud TPUs have taken older, saved
   * parameters. The committed steps since then run again.
   */
  'rolled-back',
  /** The recovery is complete. */
  'resumed',
] as const;

/** An event for the user: a fault, or a stage of the recovery from a fault. */
export interface Note {
  readonly event: (typeof noteEvents)[number];
  readonly generation: number;
  /** Index of the program whose step runs or was interrupted; null between steps. */
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
 * Returns the number of the Cloud TPU whose worker is lost, if the event is `lost` or
 * `quarantined`. Returns null for every other event.
 */
export function lostTpu({ event, tpu }: Note): number | null {
  return event === 'lost' || event === 'quarantined' ? tpu : null;
}
