import { z } from 'zod';
import type { Report, StepCommitted } from '../../src/experiment/event.ts';
import { parseJson } from '../../src/files/json.ts';
import { type ErrorCode, errorCodes } from '../../src/numerics/error.ts';
import { byPhase, count, real, timing } from '../../src/run/schema.ts';

/**
 * A line of a commit log. `generation` is the number of the membership in which the line was
 * written.
 */
export type LogRecord =
  | RunRecord
  /**
   * A master becomes the leader. `master` is the number of its first generation. Readers ignore all
   * later records of older masters. Two masters may write the same number; they then differ in
   * `name`, which is random.
   */
  | { readonly master: number; readonly name: string }
  /** A membership begins. */
  | { readonly generation: number }
  /**
   * The run continues from a checkpoint that was saved after step `from`. The next commit is the
   * commit of step `from` + 1.
   */
  | { readonly from: number; readonly generation: number }
  | { readonly commit: StepCommitted; readonly generation: number }
  /** The run has failed for good. */
  | { readonly failed: ErrorCode; readonly message: string; readonly generation: number }
  | { readonly finished: Report; readonly generation: number };

/**
 * First record of a run in the log. `key` holds the settings and data that identify the run (RunKey
 * of src/experiment/same-run.ts). `run` is the digest of the key. Logs of older versions have no
 * `key`.
 */
export interface RunRecord {
  readonly run: string;
  readonly key?: Readonly<Record<string, unknown>> | undefined;
}

/** Returns the record in a line; undefined for a truncated or damaged line. */
export function parseRecord(line: string): LogRecord | undefined {
  const found = schema.safeParse(inPresentWords(parseJson(line)));
  return found.success ? (found.data as LogRecord) : undefined;
}

/** Error with which a run has failed for good. */
export interface Failed {
  readonly code: ErrorCode;
  readonly message: string;
}

/**
 * State of the last run in a commit log, computed from the records of the log in order. Two kinds
 * of records are ignored:
 *
 * - a record that a master wrote after a newer master had become the leader;
 * - a commit of any step other than step `steps` + 1. Either the step was committed before, or the
 *   commit of an earlier step is missing.
 */
export class LogContents {
  /** Digest of the key of the last run in the log; null for an empty log. */
  run: string | null = null;
  key: Readonly<Record<string, unknown>> | undefined;
  /**
   * The newest master. `generation` is the number of its first generation. `name` is a random name
   * that the master gave itself.
   */
  leader: { readonly generation: number; readonly name: string } = { generation: 0, name: '' };
  /** Generation of the newest membership in the log; 0 for none. */
  generation = 0;
  readonly history: StepCommitted[] = [];
  /**
   * Number of steps done: the last committed step, or the step of the checkpoint from which the run
   * continued. Only a commit of the next step is accepted.
   */
  steps = 0;
  /**
   * Number of recoveries after a loss of a Cloud TPU. Each recovery begins a new membership. So a
   * recovery is counted when a commit has another membership than the commit before it.
   */
  recoveries = 0;
  #committedIn: number | undefined;
  failed: Failed | null = null;
  finished: Report | null = null;

  /** Applies the next record of the log. */
  take(record: LogRecord): void {
    if ('run' in record) this.#begin(record);
    else if ('master' in record) this.#follow(record.master, record.name);
    else if (record.generation >= this.leader.generation) this.#takeFromLeader(record);
  }

  /**
   * Begins the history of another run. `generation` is not set back, because workers of the
   * previous run may join the new run. Such a worker obeys only a generation with a larger number
   * than its own.
   */
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

  /** Makes a master the leader. If two masters wrote the same generation, the first one leads. */
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

const positive = z.int().min(1);
const generation = positive;
const phaseMs = z.strictObject(byPhase(real));
// Commits come first, because most records are commits and the members are tried in order.
const schema = z.union([
  z.strictObject({
    commit: z.strictObject({
      ...{ kind: z.literal('step'), step: positive, steps: positive },
      ...{ epoch: real, loss: real, accuracy: real, learningRate: real },
      digest: z.string().regex(/^[0-9a-f]{16}$/),
      ...{ wallMs: real, imagesPerSecond: real, phaseMs },
      slowest: z.exactOptional(z.strictObject({ tpu: count, ownMs: real, othersMs: real })),
      timing: timing.exactOptional(),
    }),
    generation,
  }),
  z.strictObject({ run: z.string(), key: z.record(z.string(), z.unknown()).optional() }),
  z.strictObject({ master: generation, name: z.string() }),
  z.strictObject({ generation }),
  z.strictObject({ from: count, generation }),
  z.strictObject({
    failed: z.enum(Object.keys(errorCodes) as [ErrorCode, ...ErrorCode[]]),
    ...{ message: z.string(), generation },
  }),
  z.strictObject({ finished: z.looseObject({ weightsDigest: z.string() }), generation }),
]);

/** Renames the field `epoch` of older versions to `generation`. */
function inPresentWords(record: unknown): unknown {
  if (typeof record !== 'object' || record === null || !('epoch' in record)) return record;
  const { epoch: generation, ...rest } = record;
  return { ...rest, generation };
}
