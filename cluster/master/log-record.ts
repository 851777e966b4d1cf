import { z } from 'zod';
import type { Report, StepCommitted } from '../../src/experiment/event.ts';
import { type ErrorCode, errorCodes } from '../../src/numerics/error.ts';

/** A line of a master's log. `generation` is the membership in which it was written. */
export type LogRecord =
  | RunRecord
  /** A master begins, and takes this generation: what an older one writes from here on does not count. */
  | { readonly master: number; readonly name: string }
  /** A membership begins. */
  | { readonly generation: number }
  /** The run goes on from a checkpoint after `from` steps: the next commit is of the step after. */
  | { readonly from: number; readonly generation: number }
  | { readonly commit: StepCommitted; readonly generation: number }
  /** The run has failed for good. */
  | { readonly failed: ErrorCode; readonly message: string; readonly generation: number }
  | { readonly finished: Report; readonly generation: number };

/** What follows is of the run with this digest of its key. Older versions did not write the key. */
export interface RunRecord {
  readonly run: string;
  readonly key?: Readonly<Record<string, unknown>> | undefined;
}

/** The record of a line; undefined when it is none, or was cut off. */
export function parseRecord(line: string): LogRecord | undefined {
  const found = schema.safeParse(inPresentWords(parseJson(line)));
  return found.success ? (found.data as LogRecord) : undefined;
}

/** Why a run has failed for good. */
export interface Failed {
  readonly code: ErrorCode;
  readonly message: string;
}

/**
 * What a log says, record by record. What a master wrote after a newer one had begun is left aside,
 * and so is a commit of any step but the next: one before it is missing.
 */
export class LogContents {
  run: string | null = null;
  key: Readonly<Record<string, unknown>> | undefined;
  /** The newest master: its generation, and the name it gave itself. */
  leader: { readonly generation: number; readonly name: string } = { generation: 0, name: '' };
  /** The last membership that there was. */
  generation = 0;
  readonly history: StepCommitted[] = [];
  /** Steps done: the next commit is of the one after. */
  steps = 0;
  /** How often the run went on in another membership than that of the step before. */
  recoveries = 0;
  #committedIn: number | undefined;
  failed: Failed | null = null;
  finished: Report | null = null;

  take(record: LogRecord): void {
    if ('run' in record) this.#begin(record);
    else if ('master' in record) this.#follow(record.master, record.name);
    else if (record.generation >= this.leader.generation) this.#takeFromLeader(record);
  }

  /** Another run begins anew, but for its generations: it may get the workers of the one before. */
  #begin({ run, key }: RunRecord): void {
    if (run === this.run) return;
    this.run = run;
    this.key = key;
    this.history.length = 0;
    this.steps = 0;
    this.recoveries = 0;
    this.#committedIn = undefined;
    this.failed = null;
    this.finished = null;
  }

  /** When two masters take the same generation, the first one has it. */
  #follow(generation: number, name: string): void {
    if (generation > this.leader.generation) this.leader = { generation, name };
    this.generation = Math.max(this.generation, generation);
  }

  #takeFromLeader(record: Exclude<LogRecord, RunRecord | { master: number }>): void {
    this.generation = Math.max(this.generation, record.generation);
    if ('from' in record) this.steps = Math.max(this.steps, record.from);
    if ('failed' in record) this.failed = { code: record.failed, message: record.message };
    if ('finished' in record) this.finished = record.finished;
    if (!('commit' in record) || record.commit.step !== this.steps + 1) return;
    if (record.generation !== (this.#committedIn ?? record.generation)) this.recoveries++;
    this.#committedIn = record.generation;
    this.history.push(record.commit);
    this.steps++;
  }
}

const count = z.int().min(0);
const positive = z.int().min(1);
const generation = positive;
/** JSON has no other word for a number that is not finite. */
const real = z
  .number()
  .nullable()
  .transform((value) => value ?? Number.NaN);
const phaseMs = z.strictObject({
  ...{ infeed: real, compute: real, 'all-reduce': real, update: real, outfeed: real, commit: real },
});
const schema = z.union([
  z.strictObject({ run: z.string(), key: z.record(z.string(), z.unknown()).optional() }),
  z.strictObject({ master: generation, name: z.string() }),
  z.strictObject({ generation }),
  z.strictObject({ from: count, generation }),
  z.strictObject({
    commit: z.strictObject({
      ...{ kind: z.literal('step'), step: positive, steps: positive },
      ...{ epoch: real, loss: real, accuracy: real, learningRate: real },
      digest: z.string().regex(/^[0-9a-f]{16}$/),
      ...{ wallMs: real, imagesPerSecond: real, phaseMs },
    }),
    generation,
  }),
  z.strictObject({
    failed: z.enum(Object.keys(errorCodes) as [ErrorCode, ...ErrorCode[]]),
    ...{ message: z.string(), generation },
  }),
  z.strictObject({ finished: z.looseObject({ weightsDigest: z.string() }), generation }),
]);

/** Older versions called the generation of a membership its epoch. */
function inPresentWords(record: unknown): unknown {
  if (typeof record !== 'object' || record === null || !('epoch' in record)) return record;
  const { epoch: generation, ...rest } = record;
  return { ...rest, generation };
}

function parseJson(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}
