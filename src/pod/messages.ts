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

/** What a master tells a worker. Every message carries the membership's epoch it belongs to. */
export type ToWorker =
  /** This membership has begun: leave the step that runs, if one does, and say so. */
  | { readonly kind: 'abort'; readonly epoch: number }
  /** Take your place in this membership: programs loaded, `steps` of each done so far. */
  | { readonly kind: 'load'; readonly epoch: number; readonly steps: readonly number[] }
  | ({ readonly kind: 'start-step'; readonly epoch: number } & StepOrder)
  /** A master has been met again, the same or another: say where you stand. */
  | { readonly kind: 'greet'; readonly epoch: number }
  | { readonly kind: 'stop'; readonly epoch: number };

/** Which step of which program to run. */
export interface StepOrder {
  /** Index into the programs that the pod was opened with. */
  readonly program: number;
  /** Counts the steps of this program from 0. */
  readonly step: number;
  /** Parameters have changed since: take them over from the program they are shared with. */
  readonly takeParameters: boolean;
}

/** What a worker tells the master. `tpu` is the number of its Cloud TPU. */
export type FromWorker =
  | {
      readonly kind: 'joined';
      readonly tpu: number;
      /** The newest membership that it has heard of; 0 of one that is new. */
      readonly epoch: number;
      /**
       * One that had its place before: by program, after how many steps its parameters are. Until it
       * begins the next step it has those of the step before as well. Null when it has none.
       */
      readonly steps: readonly number[] | null;
    }
  /** It has left the step of the membership before. */
  | { readonly kind: 'aborted'; readonly tpu: number; readonly epoch: number }
  /** Loaded; `digests` by program, of the digested parameters as they are now. */
  | {
      readonly kind: 'ready';
      readonly tpu: number;
      readonly epoch: number;
      readonly digests: readonly string[];
    }
  | ({ readonly kind: 'step-done'; readonly epoch: number } & StepReport)
  /** What another one did; the reporter itself goes on. */
  | ({
      readonly kind: 'accused';
      readonly tpu: number;
      readonly epoch: number;
      readonly suspect: number;
    } & Failure)
  | ({ readonly kind: 'failed'; readonly tpu: number; readonly epoch: number } & Failure);

/** What one Cloud TPU has to say at the end of a step. */
export interface StepReport {
  readonly tpu: number;
  readonly program: number;
  readonly step: number;
  /** 16 hexadecimal digits over the digested parameters. */
  readonly digest: string;
  /** Element i of the outfeed: the copies of all cores one after another, or one if shared. */
  readonly outfeed: readonly Uint8Array[];
  /** Wall time in ms of each phase, in the order of isa's `phases`. */
  readonly phaseMs: readonly number[];
}

/** Why a worker gave up. `code` is that of a PodError, or null for anything else. */
export interface Failure {
  readonly code: string | null;
  readonly message: string;
}

const isDigest: FieldCheck = (value) => typeof value === 'string' && /^[0-9a-f]{16}$/.test(value);
const isCode: FieldCheck = (value) => value === null || isText(value);
const isCounts: FieldCheck = isListOf(isCount);

const toWorker: Shapes<ToWorker> = {
  abort: { epoch: isCount },
  load: { epoch: isCount, steps: isCounts },
  'start-step': { epoch: isCount, program: isCount, step: isCount, takeParameters: isFlag },
  greet: { epoch: isCount },
  stop: { epoch: isCount },
};

const fromWorker: Shapes<FromWorker> = {
  joined: { tpu: isCount, epoch: isCount, steps: (value) => value === null || isCounts(value) },
  aborted: { tpu: isCount, epoch: isCount },
  ready: { tpu: isCount, epoch: isCount, digests: isListOf(isDigest) },
  'step-done': {
    tpu: isCount,
    epoch: isCount,
    program: isCount,
    step: isCount,
    digest: isDigest,
    outfeed: isListOf(isBytes),
    phaseMs: isListOf(isNumber),
  },
  accused: { tpu: isCount, epoch: isCount, suspect: isCount, code: isCode, message: isText },
  failed: { tpu: isCount, epoch: isCount, code: isCode, message: isText },
};

/** Checks what arrived at a worker. Throws `worker-threw`, naming the field. */
export function checkToWorker(value: unknown): ToWorker {
  return checkMessage<ToWorker>(toWorker, value, 'a worker');
}

/** Checks what arrived at the master. Throws `worker-threw`, naming the field. */
export function checkFromWorker(value: unknown): FromWorker {
  return checkMessage<FromWorker>(fromWorker, value, 'the master');
}
