import { z } from 'zod';
import { PodError } from '../numerics/error.ts';

/** What a master tells a worker. Every message carries the membership's epoch it belongs to. */
export type ToWorker =
  /** Take your place in this membership and load the programs. */
  | { readonly kind: 'load'; readonly epoch: number }
  | ({ readonly kind: 'start-step'; readonly epoch: number } & StepOrder)
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
  | { readonly kind: 'joined'; readonly tpu: number }
  | { readonly kind: 'ready'; readonly tpu: number; readonly epoch: number }
  | ({ readonly kind: 'step-done'; readonly epoch: number } & StepReport)
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

const count: z.ZodNumber = z.int().min(0);
const stepReport = {
  tpu: count,
  program: count,
  step: count,
  digest: z.string().regex(/^[0-9a-f]{16}$/),
  outfeed: z.array(z.instanceof(Uint8Array)),
  phaseMs: z.array(z.number()),
};

const toWorker: z.ZodType<ToWorker> = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('load'), epoch: count }),
  z.strictObject({
    kind: z.literal('start-step'),
    epoch: count,
    program: count,
    step: count,
    takeParameters: z.boolean(),
  }),
  z.strictObject({ kind: z.literal('stop'), epoch: count }),
]);

const fromWorker: z.ZodType<FromWorker> = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('joined'), tpu: count }),
  z.strictObject({ kind: z.literal('ready'), tpu: count, epoch: count }),
  z.strictObject({ kind: z.literal('step-done'), epoch: count, ...stepReport }),
  z.strictObject({
    kind: z.literal('failed'),
    tpu: count,
    epoch: count,
    code: z.string().nullable(),
    message: z.string(),
  }),
]);

/** Checks what arrived at a worker. */
export function checkToWorker(value: unknown): ToWorker {
  return check(toWorker, value, 'a worker');
}

/** Checks what arrived at the master. */
export function checkFromWorker(value: unknown): FromWorker {
  return check(fromWorker, value, 'the master');
}

function check<T>(schema: z.ZodType<T>, value: unknown, receiver: string): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  const where =
    issue === undefined ? '' : ` at ${issue.path.join('.') || 'the top'}: ${issue.message}`;
  throw new PodError('worker-threw', `a message to ${receiver} is malformed${where}`);
}
