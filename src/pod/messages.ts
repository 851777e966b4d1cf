import { PodError } from '../numerics/error.ts';

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

/** What each field of each kind of message must be, and no field besides. */
type Shapes<M extends { readonly kind: string }> = {
  readonly [K in M['kind']]: {
    readonly [F in Exclude<keyof Extract<M, { readonly kind: K }>, 'kind'>]: FieldCheck;
  };
};
type FieldCheck = (value: unknown) => boolean;

const isCount: FieldCheck = (value) => Number.isSafeInteger(value) && (value as number) >= 0;
const isText: FieldCheck = (value) => typeof value === 'string';
const isFlag: FieldCheck = (value) => typeof value === 'boolean';
const isCode: FieldCheck = (value) => value === null || isText(value);
const isCounts: FieldCheck = (value) => isListOf(value, isCount);
const isDigest: FieldCheck = (value) => typeof value === 'string' && /^[0-9a-f]{16}$/.test(value);

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
  ready: { tpu: isCount, epoch: isCount, digests: (value) => isListOf(value, isDigest) },
  'step-done': {
    tpu: isCount,
    epoch: isCount,
    program: isCount,
    step: isCount,
    digest: isDigest,
    outfeed: (value) => isListOf(value, (it) => it instanceof Uint8Array),
    phaseMs: (value) => isListOf(value, (it) => typeof it === 'number'),
  },
  accused: { tpu: isCount, epoch: isCount, suspect: isCount, code: isCode, message: isText },
  failed: { tpu: isCount, epoch: isCount, code: isCode, message: isText },
};

/** Checks what arrived at a worker. Throws `worker-threw`, naming the field. */
export function checkToWorker(value: unknown): ToWorker {
  return check<ToWorker>(toWorker, value, 'a worker');
}

/** Checks what arrived at the master. Throws `worker-threw`, naming the field. */
export function checkFromWorker(value: unknown): FromWorker {
  return check<FromWorker>(fromWorker, value, 'the master');
}

function check<M extends { readonly kind: string }>(
  shapes: Readonly<Record<string, Readonly<Record<string, FieldCheck>>>>,
  value: unknown,
  receiver: string,
): M {
  const wrong = findWrong(shapes, value);
  if (wrong === undefined) return value as M;
  throw new PodError('worker-threw', `a message to ${receiver} is malformed: ${wrong}`);
}

/** What is wrong with a message, in a few words, if anything. */
function findWrong(
  shapes: Readonly<Record<string, Readonly<Record<string, FieldCheck>>>>,
  value: unknown,
): string | undefined {
  if (typeof value !== 'object' || value === null) return `expected fields, found ${typeof value}`;
  const message = value as Readonly<Record<string, unknown>>;
  const kind = message['kind'];
  if (typeof kind !== 'string' || !Object.hasOwn(shapes, kind)) return 'unknown kind';
  const shape = shapes[kind] ?? {};
  for (const field of Object.keys(message)) {
    if (field !== 'kind' && !Object.hasOwn(shape, field)) return `${kind} has no ${field}`;
  }
  for (const [field, holds] of Object.entries(shape)) {
    if (!holds(message[field])) return `${field} of ${kind}`;
  }
  return undefined;
}

function isListOf(value: unknown, holds: FieldCheck): boolean {
  return Array.isArray(value) && value.every(holds);
}
