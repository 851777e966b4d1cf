import { z } from 'zod';
import { phases } from '../isa/executable.ts';
import type { RunFact } from '../run/event.ts';

/** A line of the log of a master, a worker or a supervisor. */
export interface LogLine {
  /** Level as pino numbers it: 30 information, 40 warning, 50 error. */
  readonly level: number;
  /** Wall time in ms; undefined if the log line has no time. */
  readonly time: number | undefined;
  readonly msg: string;
  readonly fields: Readonly<Record<string, unknown>>;
}

/**
 * Returns the event that a log line records, or undefined if the line records no event. Only the
 * fields that the progress display shows are checked. If one of them is missing or wrong, the
 * function returns undefined too.
 */
export function eventIn({ msg, fields }: LogLine): RunFact | undefined {
  const kind = fields['event'] === msg ? 'note' : msg;
  const schema = Object.hasOwn(schemas, kind) ? schemas[kind as keyof typeof schemas] : undefined;
  const found = schema?.safeParse(fields).data;
  if (found === undefined) return undefined;
  switch (kind) {
    case 'note': {
      // Log lines number the steps from 1, but notes number them from 0.
      const { step } = found as { readonly step: number | null };
      const note = { ...found, step: step === null ? null : step - 1 };
      return { kind, note } as unknown as RunFact;
    }
    case 'summary':
      return { kind: 'finished', report: found } as unknown as RunFact;
    default:
      return { kind, ...found } as unknown as RunFact;
  }
}

const { string: text, number, boolean: flag } = z;
const quantiles = z.object({ p50: number(), p90: number(), max: number() });
const refused = z.array(z.object({ name: text(), reason: text() }));

/**
 * Schemas of the fields that the progress display shows. The key of a schema is the `msg` of the
 * log lines that the schema checks. The key `note` is an exception: its schema checks the log lines
 * of notes. In such a line, `msg` and the field `event` are equal.
 */
const schemas = {
  started: z.looseObject({
    config: z.looseObject({
      topology: z.object({ columns: number(), rows: number() }),
      ...{ model: text(), data: text(), globalBatch: number(), seed: number() },
    }),
    ...{ tpus: number(), steps: number(), parameters: number() },
    ...{ hbmBytesPerCore: number(), hbmLimitBytes: number() },
  }),
  ready: z.looseObject({ elapsedMs: number() }),
  'warm-started': z.looseObject({ checkpoint: text(), weightsDigest: text(), refused }),
  resumed: z.looseObject({ checkpoint: text().nullable(), step: number(), refused }),
  step: z.looseObject({
    ...{ step: number(), steps: number(), epoch: number(), loss: number(), accuracy: number() },
    ...{ wallMs: number(), imagesPerSecond: number() },
    slowest: z.looseObject({ tpu: number(), ownMs: number(), othersMs: number() }).exactOptional(),
    timing: z.looseObject({ slowestPhase: z.enum(phases), causedMs: number() }).exactOptional(),
  }),
  straggler: z.looseObject({
    ...{ step: number(), inARow: number(), tpu: number(), ownMs: number(), othersMs: number() },
    ...{ slowestPhase: z.enum(phases).exactOptional(), causedMs: number().exactOptional() },
  }),
  checkpoint: z.looseObject({ name: text(), bytes: number(), wallMs: number() }),
  'checkpoint-failed': z.looseObject({ step: number(), reason: text() }),
  'checkpoint-refused': z.looseObject({ name: text(), reason: text() }),
  evaluating: z.looseObject({ step: number(), samples: number() }),
  evaluated: z.looseObject({
    ...{ step: number(), samples: number(), accuracy: number(), loss: number() },
  }),
  stopped: z.looseObject({ step: number(), steps: number(), saved: flag() }),
  note: z.looseObject({
    ...{ event: text(), generation: number(), cause: text(), elapsedMs: number() },
    ...{ step: number().nullable(), tpu: number().nullable() },
  }),
  summary: z.looseObject({
    ...{ steps: number(), stepsTrained: number(), stepMs: quantiles },
    phaseMs: z.looseObject(Object.fromEntries([...phases, 'commit'].map((it) => [it, quantiles]))),
    linkBytes: z.record(text(), number()),
    ...{ imagesPerSecond: number(), hbmBytesPerCore: number(), finalLoss: number() },
    ...{ evalAccuracy: number(), evalSamples: number(), weightsDigest: text() },
    recoveries: number(),
    slowest: z
      .looseObject({
        ...{ tpu: number(), steps: number(), ofSteps: number() },
        ...{ ownMs: number(), othersMs: number(), causedMs: number() },
        slowestLink: z.object({ link: text(), waitMs: number() }).exactOptional(),
      })
      .exactOptional(),
  }),
} as const;
