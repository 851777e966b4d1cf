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

/** What a master tells a worker. Every message carries the membership's generation it belongs to. */
export type ToWorker =
  /** This membership has begun: leave the step that runs, if one does, and say so. */
  | { readonly kind: 'abort'; readonly generation: number }
  /** Take your place in this membership: programs loaded, `steps` of each done so far. */
  | { readonly kind: 'load'; readonly generation: number; readonly steps: readonly number[] }
  | ({ readonly kind: 'start-step'; readonly generation: number } & StepOrder)
  /** A master has been met again, the same or another: say where you stand. */
  | { readonly kind: 'greet'; readonly generation: number }
  | { readonly kind: 'stop'; readonly generation: number };

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
      readonly generation: number;
      /**
       * One that had its place before: by program, after how many steps its parameters are. Until it
       * begins the next step it has those of the step before as well. Null when it has none.
       */
      readonly steps: readonly number[] | null;
    }
  /** It has left the step of the membership before. */
  | { readonly kind: 'aborted'; readonly tpu: number; readonly generation: number }
  /** Loaded; `digests` by program, of the digested parameters as they are now. */
  | {
      readonly kind: 'ready';
      readonly tpu: number;
      readonly generation: number;
      readonly digests: readonly string[];
    }
  | ({ readonly kind: 'step-done'; readonly generation: number } & StepReport)
  /** What another one did; the reporter itself goes on. */
  | ({
      readonly kind: 'accused';
      readonly tpu: number;
      readonly generation: number;
      readonly suspect: number;
    } & Failure)
  | ({ readonly kind: 'failed'; readonly tpu: number; readonly generation: number } & Failure);

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
  },
  accused: { tpu: isCount, generation: isCount, suspect: isCount, code: isCode, message: isText },
  failed: { tpu: isCount, generation: isCount, code: isCode, message: isText },
};

/** Checks what arrived at a worker. Throws `worker-threw`, naming the field. */
export function checkToWorker(value: unknown): ToWorker {
  return checkMessage<ToWorker>(toWorker, value, 'a worker');
}

/** Checks what arrived at the master. Throws `worker-threw`, naming the field. */
export function checkFromWorker(value: unknown): FromWorker {
  return checkMessage<FromWorker>(fromWorker, value, 'the master');
}
