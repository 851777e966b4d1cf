import fc from 'fast-check';
import { scheduleNames, type TrainConfig } from '../../src/experiment/config.ts';
import type { Note, PhaseMs, Report } from '../../src/experiment/event.ts';
import { phases } from '../../src/isa/executable.ts';
import { networkNames } from '../../src/model/networks.ts';
import { noteEvents } from '../../src/pod/master/action.ts';
import { recoveryPolicies } from '../../src/pod/master/options.ts';
import type { RunFact } from '../../src/run/event.ts';

const count = fc.nat();
const real = fc.double({ noNaN: true, noDefaultInfinity: true }).map((it) => it + 0);
const text = fc.string({ unit: 'binary' });
const orNull = <T>(it: fc.Arbitrary<T>): fc.Arbitrary<T | null> => fc.option(it, { nil: null });
const refused = fc.array(fc.record({ name: text, reason: text }), { maxLength: 2 });
const quantiles = fc.record({ p50: real, p90: real, max: real });

function byPhase<T>(it: fc.Arbitrary<T>): fc.Arbitrary<Record<keyof PhaseMs, T>> {
  return fc.record({
    ...{ infeed: it, compute: it, 'all-reduce': it, update: it, outfeed: it, commit: it },
  });
}

const side = fc.integer({ min: 1, max: 8 });
/** Arbitrary settings of a run. */
export const config: fc.Arbitrary<TrainConfig> = fc
  .record({
    topology: fc.record({ columns: side, rows: side }),
    ...{ model: fc.constantFrom(...networkNames), data: text, globalBatch: count },
    length: fc.oneof(
      fc.record({ unit: fc.constant('steps' as const), steps: count }),
      fc.record({ unit: fc.constant('epochs' as const), epochs: real }),
    ),
    ...{ learningRate: real, schedule: fc.constantFrom(...scheduleNames), warmUp: real },
    ...{ momentum: real, seed: count, precision: fc.constantFrom('bf16' as const, 'f32' as const) },
    mxu: fc.constantFrom('fast' as const, 'systolic' as const),
    recovery: fc.constantFrom(...recoveryPolicies),
    startFrom: fc.option(text, { nil: undefined }),
    evaluate: fc.option(count, { nil: undefined }),
  })
  .map(({ startFrom, ...it }) => ({ ...it, ...(startFrom !== undefined && { startFrom }) }));

const checkpoints = fc.record({
  ...{ resumedFrom: orNull(text), refused, saved: count, failed: count },
});
const linkWait = fc.record({ link: text, waitMs: real });
const report: fc.Arbitrary<Report> = fc
  .record({
    ...{ tpus: count, topology: text, model: text, data: text, globalBatch: count, steps: count },
    ...{ stepsTrained: count, seed: count, precision: fc.constantFrom('bf16' as const) },
    ...{ mxu: fc.constantFrom('fast' as const), finalLoss: real, evalAccuracy: real },
    ...{ evalSamples: count, weightsDigest: text, imagesPerSecond: real, stepMs: quantiles },
    ...{ phaseMs: byPhase(quantiles), hbmBytesPerCore: count, recoveries: count },
    linkBytes: fc.dictionary(
      text.map((it) => `link ${it}`),
      count,
    ),
    slowest: fc.record({
      ...{ tpu: count, steps: count, ofSteps: count },
      ...{ ownMs: real, othersMs: real, causedMs: real, slowestLink: linkWait },
    }),
    checkpoints: fc.option(checkpoints, { nil: undefined }),
  })
  .map(({ checkpoints: it, ...rest }) => ({
    ...rest,
    ...(it !== undefined && { checkpoints: it }),
  }));

const longest = fc.record({ tpu: count, ms: real });

const note: fc.Arbitrary<Note> = fc.record({
  event: fc.constantFrom(...noteEvents),
  ...{ generation: count, program: orNull(count), step: orNull(count), tpu: orNull(count) },
  ...{ cause: text, elapsedMs: real },
});

const kind = <K extends string>(it: K): { readonly kind: fc.Arbitrary<K> } => ({
  kind: fc.constant(it),
});

/** For each kind of fact, arbitrary facts. A fact is an event of a run without its number. */
export const facts: {
  readonly [K in RunFact['kind']]: fc.Arbitrary<Extract<RunFact, { readonly kind: K }>>;
} = {
  started: fc.record({
    ...{ ...kind('started'), config, tpus: count, steps: count, trainSamples: count },
    ...{ parameters: count, hbmBytesPerCore: count, hbmLimitBytes: count },
  }),
  'warm-started': fc.record({
    ...{ ...kind('warm-started'), checkpoint: text, weightsDigest: text, refused },
  }),
  resumed: fc.record({ ...kind('resumed'), checkpoint: orNull(text), step: count, refused }),
  ready: fc.record({ ...kind('ready'), elapsedMs: real }),
  step: fc.record({
    ...{ ...kind('step'), step: count, steps: count, epoch: real, loss: real, accuracy: real },
    ...{ learningRate: real, digest: text, wallMs: real, imagesPerSecond: real },
    phaseMs: byPhase(real),
    slowest: fc.record({ tpu: count, ownMs: real, othersMs: real }),
    timing: fc.record({
      ...{ slowestPhase: fc.constantFrom(...phases), slowestSince: count },
      ...{ waitMs: real, causedMs: real, slowestLink: linkWait },
    }),
    longest: fc.record({
      ...{ infeed: longest, compute: longest, 'all-reduce': longest },
      ...{ update: longest, outfeed: longest },
    }),
    tpuLinkWaitMs: fc.array(fc.array(real, { maxLength: 8 }), { maxLength: 3 }),
    tpuPhaseMs: fc.array(fc.array(real, { maxLength: 5 }), { maxLength: 3 }),
  }),
  straggler: fc.record({
    ...{ ...kind('straggler'), step: count, inARow: count, tpu: count },
    ...{ ownMs: real, othersMs: real, slowestPhase: fc.constantFrom(...phases), causedMs: real },
  }),
  checkpoint: fc.record({
    ...{ ...kind('checkpoint'), step: count, name: text, bytes: count, wallMs: real },
  }),
  'checkpoint-failed': fc.record({ ...kind('checkpoint-failed'), step: count, reason: text }),
  'checkpoint-refused': fc.record({ ...kind('checkpoint-refused'), name: text, reason: text }),
  evaluating: fc.record({ ...kind('evaluating'), step: count, samples: count }),
  evaluated: fc.record({
    ...{ ...kind('evaluated'), step: count, samples: count, correct: count },
    ...{ accuracy: real, loss: real },
  }),
  stopped: fc.record({ ...kind('stopped'), step: count, steps: count, saved: fc.boolean() }),
  note: fc.record({ ...kind('note'), note }),
  finished: fc.record({ ...kind('finished'), report }),
  pod: fc.record({
    ...{ ...kind('pod'), msg: text, level: fc.constantFrom('info' as const, 'warn' as const) },
    fields: fc.record({ tpu: count, cause: text, generation: orNull(count) }),
  }),
  failed: fc.record({ ...kind('failed'), code: orNull(text), message: text }),
};

/** An arbitrary fact (event of a run without its number) of any kind. */
export const fact: fc.Arbitrary<RunFact> = fc.oneof(...Object.values(facts));
