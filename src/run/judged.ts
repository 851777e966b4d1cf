import { z } from 'zod';
import { type Ground, grounds } from '../fault/plan.ts';
import { faultSchema } from '../fault/schema.ts';
import type { FaultOutcome, Verdict } from '../fault/verdict.ts';
import { eventVersion } from './event.ts';
import { count, real } from './schema.ts';

/** Content of `verdict.json`: what happened to the faults of a plan, and how the run was judged. */
export interface JudgedRun {
  readonly v: typeof eventVersion;
  /** Kind of pod on which the plan ran. In a simulation (`sim`) all times are virtual. */
  readonly ground: Ground;
  /**
   * Number of events of the record; absent if the record is made by a master, or by an older version
   * of this program.
   */
  readonly events?: number;
  /** How the run ended. */
  readonly outcome: 'done' | 'failed';
  /** Error of a failed run; empty otherwise. */
  readonly message: string;
  /**
   * What happened to each fault: to those that the plan lists, and to those that were drawn at
   * random. `injectedMs` is on the same clock as the field `time` of recorded events.
   */
  readonly faults: readonly FaultOutcome[];
  readonly verdicts: readonly Verdict[];
}

/**
 * A time in ms. Absent if there was no such moment: for example, no time of the report if a fault
 * was never reported.
 */
const time = real.optional();

const outcome: z.ZodType<FaultOutcome> = z
  .looseObject({
    ...{ index: count, fault: faultSchema },
    ...{ injectedMs: time, detectionMs: time, recoveryMs: time },
    blamed: count.nullable().optional(),
  })
  .transform(({ index, fault, injectedMs, detectionMs, recoveryMs, blamed }) => {
    return { index, fault, injectedMs, detectionMs, recoveryMs, blamed };
  });

/** Schema of `verdict.json`. */
export const judgedSchema: z.ZodType<JudgedRun> = z.looseObject({
  v: z.literal(eventVersion),
  ...{ ground: z.enum(grounds), outcome: z.enum(['done', 'failed']), message: z.string() },
  events: count.exactOptional(),
  faults: z.array(outcome),
  verdicts: z.array(
    z.looseObject({ expectation: z.string(), holds: z.boolean(), found: z.string() }),
  ),
});
