import {
  checkMessage,
  type FieldCheck,
  isBytes,
  isCount,
  isFlag,
  isListOf,
  isNumber,
  isText,
  type Shapes,
} from './shape.ts';

/**
 * A message from the master to a worker. `generation` is the number of the membership in which the
 * master sent the message. Whenever a Cloud TPU is lost, a new membership begins.
 */
export type ToWorker =
  /** A new membership has begun: the worker leaves its step, if one runs, and answers `aborted`. */
  | { readonly kind: 'abort'; readonly generation: number }
  /**
   * The worker loads its programs for the membership `generation`. `steps` has, for each program by
   * its index, the number of steps that have been applied to the program's parameters.
   */
  | { readonly kind: 'load'; readonly generation: number; readonly steps: readonly number[] }
  | ({ readonly kind: 'start-step'; readonly generation: number } & StepOrder)
  /**
   * Sent when the worker has connected again, to the same master or to a new one. The worker
   * answers `joined`.
   */
  | { readonly kind: 'greet'; readonly generation: number }
  | { readonly kind: 'stop'; readonly generation: number };

/** Order to run one step of one program. */
export interface StepOrder {
  /** Index of the program in `PodOptions.programs`. */
  readonly program: number;
  /** Number of the step, from 0 at the start of the program. */
  readonly step: number;
  /**
   * True if the worker must copy parameters to this program before the step. They come from the
   * program `Program.parametersFrom`. The value is false if they have not changed since the last
   * copy.
   */
  readonly takeParameters: boolean;
}

/** A message from a worker to the master. `tpu` is the number of the worker's Cloud TPU. */
export type FromWorker =
  | {
      readonly kind: 'joined';
      readonly tpu: number;
      /** The newest generation that the worker has received; 0 for a new worker. */
      readonly generation: number;
      /**
       * For each program, by its index: the number of steps applied to the worker's parameters.
       * Null if the worker has no parameters, for example because the worker is new. A worker that
       * has finished a step also keeps the parameters from before that step, until it begins the
       * next one.
       */
      readonly steps: readonly number[] | null;
    }
  /** Answer to `abort`: the worker runs no step any more. */
  | { readonly kind: 'aborted'; readonly tpu: number; readonly generation: number }
  /**
   * Answer to `load`. `digests` has, for each program by its index, the digest of the program's
   * current weights.
   */
  | {
      readonly kind: 'ready';
      readonly tpu: number;
      readonly generation: number;
      readonly digests: readonly string[];
    }
  | ({ readonly kind: 'step-done'; readonly generation: number } & StepReport)
  /**
   * The worker of Cloud TPU `tpu` reports a fault of another Cloud TPU, `suspect`. The worker
   * itself has not failed.
   */
  | ({
      readonly kind: 'accused';
      readonly tpu: number;
      readonly generation: number;
      readonly suspect: number;
    } & Failure)
  | ({ readonly kind: 'failed'; readonly tpu: number; readonly generation: number } & Failure);

/** Results of one step on one Cloud TPU. */
export interface StepReport {
  readonly tpu: number;
  readonly program: number;
  readonly step: number;
  /** Digest of the weights after the step, 16 hexadecimal digits. */
  readonly digest: string;
  /**
   * The elements of the outfeed, as bytes. If the value of an element can differ between cores, the
   * element has one copy for each core, in order of cores. Otherwise it has a single copy.
   */
  readonly outfeed: readonly Uint8Array[];
  /** Wall time, in ms, of each phase of the step, in the order of `phases` (src/isa). */
  readonly phaseMs: readonly number[];
  /**
   * For each link that enters the Cloud TPU from another one: the time, in ms, for which the
   * all-reduces of the step waited for frames on the link. The links are in the order of
   * `enteringLinks` (src/fabric). Empty if the worker does not measure waits.
   */
  readonly linkWaitMs: readonly number[];
}

/** Reason of a failure. `code` is the code of a PodError, or null for any other error. */
export interface Failure {
  readonly code: string | null;
  readonly message: string;
}

const isDigest: FieldCheck = (value) => typeof value === 'string' && /^[0-9a-f]{16}$/.test(value);
const isCode: FieldCheck = (value) => value === null || isText(value);
const isCounts: FieldCheck = isListOf(isCount);

const toWorker: Shapes<ToWorker> = {
  abort: { generation: isCount },
  load: { generation: isCount, steps: isCounts },
  'start-step': { generation: isCount, program: isCount, step: isCount, takeParameters: isFlag },
  greet: { generation: isCount },
  stop: { generation: isCount },
};

const fromWorker: Shapes<FromWorker> = {
  joined: {
    tpu: isCount,
    generation: isCount,
    steps: (value) => value === null || isCounts(value),
  },
  aborted: { tpu: isCount, generation: isCount },
  ready: { tpu: isCount, generation: isCount, digests: isListOf(isDigest) },
  'step-done': {
    tpu: isCount,
    generation: isCount,
    program: isCount,
    step: isCount,
    digest: isDigest,
    outfeed: isListOf(isBytes),
    phaseMs: isListOf(isNumber),
    linkWaitMs: isListOf(isNumber),
  },
  accused: { tpu: isCount, generation: isCount, suspect: isCount, code: isCode, message: isText },
  failed: { tpu: isCount, generation: isCount, code: isCode, message: isText },
};

/**
 * Checks a message that a worker has received. Throws PodError `worker-threw`, naming the field.
 */
export function checkToWorker(value: unknown): ToWorker {
  return checkMessage<ToWorker>(toWorker, value, 'a worker');
}

/**
 * Checks a message that the master has received. Throws PodError `worker-threw`, naming the field.
 */
export function checkFromWorker(value: unknown): FromWorker {
  return checkMessage<FromWorker>(fromWorker, value, 'the master');
}
