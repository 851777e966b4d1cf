import { z } from 'zod';
import { type ScheduleName, scheduleNames, type TrainConfig } from '../experiment/config.ts';
import type { PhaseMs, Report, StepTiming } from '../experiment/event.ts';
import type { RunKey } from '../experiment/same-run.ts';
import { type Phase, phases } from '../isa/executable.ts';
import { networkNames } from '../model/networks.ts';
import { noteEvents } from '../pod/master/action.ts';
import { recoveryPolicies } from '../pod/master/options.ts';
import { eventVersion, type RecordedEvent } from './event.ts';

const { string: text, boolean: flag, int, number } = z;
/** Schema of a count: a whole number from 0. */
export const count: z.ZodType<number> = int().min(0);
/** Schema of a number. JSON writes `null` for NaN and infinities, so `null` is read as NaN. */
export const real: z.ZodType<number> = number()
  .nullable()
  .transform((value) => value ?? Number.NaN);
const quantiles = z.looseObject({ p50: real, p90: real, max: real });
const linkWait = z.looseObject({ link: text(), waitMs: real });
const refusal = z.looseObject({ name: text(), reason: text() });

/**
 * Returns an object with one field for each phase of a step. The name of the field is the phase,
 * its value is `schema`.
 */
function ofPhases<T extends z.ZodType>(schema: T): Record<Phase, T> {
  return Object.fromEntries(phases.map((phase) => [phase, schema])) as Record<Phase, T>;
}

/**
 * Returns an object with one field for each phase of a step, and a field `commit`. The value of
 * every field is `schema`.
 */
export function byPhase<T extends z.ZodType>(schema: T): Record<keyof PhaseMs, T> {
  return { ...ofPhases(schema), commit: schema };
}

const config: z.ZodType<TrainConfig> = z
  .looseObject({
    topology: z.looseObject({ columns: count, rows: count }),
    model: z.enum(networkNames),
    data: text(),
    globalBatch: count,
    length: z.discriminatedUnion('unit', [
      z.looseObject({ unit: z.literal('steps'), steps: count }),
      z.looseObject({ unit: z.literal('epochs'), epochs: number() }),
    ]),
    ...{ learningRate: number(), schedule: z.enum(scheduleNames as readonly ScheduleName[]) },
    ...{ warmUp: number(), momentum: number(), seed: count },
    precision: z.enum(['bf16', 'f32']),
    mxu: z.enum(['fast', 'systolic']),
    remat: z.enum(['auto', 'always', 'never']).exactOptional(),
    recovery: z.enum(recoveryPolicies),
    evaluate: count.optional(),
    startFrom: text().exactOptional(),
  })
  .transform((it) => ({ ...it, evaluate: it.evaluate }));

/** Schema of the report of a run, which is also the content of its file `report.json`. */
export const reportSchema: z.ZodType<Report> = z.looseObject({
  ...{ tpus: count, topology: text(), model: text(), data: text(), globalBatch: count },
  ...{ steps: count, stepsTrained: count, seed: count },
  precision: z.enum(['bf16', 'f32']),
  mxu: z.enum(['fast', 'systolic']),
  ...{ finalLoss: real, evalAccuracy: real, evalSamples: count, weightsDigest: text() },
  ...{ imagesPerSecond: real, stepMs: quantiles, phaseMs: z.looseObject(byPhase(quantiles)) },
  linkBytes: z.record(text(), number()),
  slowest: z
    .looseObject({
      ...{ tpu: count, steps: count, ofSteps: count },
      ...{ ownMs: real, othersMs: real, causedMs: real },
      slowestLink: linkWait.exactOptional(),
    })
    .exactOptional(),
  ...{ hbmBytesPerCore: count, recoveries: count },
  checkpoints: z
    .looseObject({
      resumedFrom: text().nullable(),
      refused: z.array(refusal),
      ...{ saved: count, failed: count },
    })
    .exactOptional(),
});

/** Schema of a phase that a Cloud TPU runs in a step. The commit of the step is no such phase. */
const phase = z.enum(phases);

/** Schema of {@link StepTiming}: how the slowest Cloud TPU of a step delayed the others. */
export const timing: z.ZodType<StepTiming> = z.looseObject({
  ...{ slowestPhase: phase, slowestSince: count, waitMs: real, causedMs: real },
  slowestLink: linkWait.exactOptional(),
});

const longest = z.looseObject({ tpu: count, ms: real });

const note = z.looseObject({
  event: z.enum(noteEvents),
  generation: count,
  ...{ program: count.nullable(), step: count.nullable(), tpu: count.nullable() },
  ...{ cause: text(), elapsedMs: real },
});

/** Returns the schema of the events of one kind. */
function eventOf<K extends string, S extends z.ZodRawShape>(kind: K, fields: S) {
  return z.looseObject({
    ...{ time: number(), master: count, v: z.literal(eventVersion), n: count },
    generation: count.exactOptional(),
    kind: z.literal(kind),
    ...fields,
  });
}

/**
 * Schema of a line of `events.ndjson`. Reading keeps fields that the schema does not name, because
 * a later version of this program may add fields without raising {@link eventVersion}.
 */
export const eventSchema: z.ZodType<RecordedEvent> = z.discriminatedUnion('kind', [
  eventOf('started', {
    ...{ config, tpus: count, steps: count, trainSamples: count, parameters: count },
    ...{ hbmBytesPerCore: count, hbmLimitBytes: count },
  }),
  eventOf('warm-started', {
    ...{ checkpoint: text(), weightsDigest: text(), refused: z.array(refusal) },
  }),
  eventOf('resumed', {
    ...{ checkpoint: text().nullable(), step: count, refused: z.array(refusal) },
  }),
  eventOf('ready', { elapsedMs: real }),
  eventOf('step', {
    ...{ step: count, steps: count, epoch: real, loss: real, accuracy: real, learningRate: real },
    ...{ digest: text(), wallMs: real, imagesPerSecond: real },
    phaseMs: z.looseObject(byPhase(real)),
    slowest: z.exactOptional(z.looseObject({ tpu: count, ownMs: real, othersMs: real })),
    timing: timing.exactOptional(),
    longest: z.looseObject(ofPhases(longest)).exactOptional(),
    tpuPhaseMs: z.array(z.array(real)).exactOptional(),
    tpuLinkWaitMs: z.array(z.array(real)).exactOptional(),
  }),
  eventOf('straggler', {
    ...{ step: count, inARow: count, tpu: count, ownMs: real, othersMs: real },
    ...{ slowestPhase: phase.exactOptional(), causedMs: real.exactOptional() },
  }),
  eventOf('checkpoint', { step: count, name: text(), bytes: count, wallMs: real }),
  eventOf('checkpoint-failed', { step: count, reason: text() }),
  eventOf('checkpoint-refused', { name: text(), reason: text() }),
  eventOf('evaluating', { step: count, samples: count }),
  eventOf('evaluated', {
    ...{ step: count, samples: count, correct: count, accuracy: real, loss: real },
  }),
  eventOf('stopped', { step: count, steps: count, saved: flag() }),
  eventOf('note', { note }),
  eventOf('finished', { report: reportSchema }),
  eventOf('pod', {
    ...{ msg: text(), level: z.enum(['info', 'warn']), fields: z.record(text(), z.unknown()) },
  }),
  eventOf('failed', { code: text().nullable(), message: text() }),
]);

/** Content of `config.json`: the settings of a recorded run. */
export interface RunSettings {
  readonly v: typeof eventVersion;
  /** Key that identifies the run. Only a run with the same key may continue this run folder. */
  readonly key: RunKey;
  readonly config: TrainConfig;
  readonly relaxedSimd: boolean;
  /** Folder and interval of the checkpoints; null for a run without checkpoints. */
  readonly checkpoint: {
    readonly directory: string;
    readonly every: number;
    readonly keep: number;
    readonly resume: boolean;
  } | null;
}

/** Schema of `config.json`. */
export const settingsSchema: z.ZodType<RunSettings> = z.looseObject({
  v: z.literal(eventVersion),
  key: z.looseObject({
    ...{ topology: text(), model: text(), globalBatch: count, seed: count, precision: text() },
    ...{ momentum: number(), trainDigest: text(), startDigest: text().nullable() },
    ...{ steps: count, ratesDigest: text() },
  }),
  config,
  relaxedSimd: flag(),
  checkpoint: z
    .looseObject({ directory: text(), every: count, keep: count, resume: flag() })
    .nullable(),
});
