import { z } from 'zod';
import { parseBound } from './bound.ts';
import {
  collectivePhases,
  drawnKinds,
  endingFaults,
  type Fault,
  type FaultPlan,
  frameFaults,
  isCollective,
  linkFaults,
  membershipPhases,
  memories,
  recoveryPaths,
  stepPhases,
} from './plan.ts';

const index = z.int().min(0).max(65_535);
const stepNumber = z.int().min(1).max(10_000_000);
const milliseconds = z.number().positive().max(86_400_000);

const stepPosition = z
  .strictObject({
    step: stepNumber.describe('number of the step, from 1'),
    phase: z.enum(stepPhases).exactOptional().describe('phase of the step; default: compute'),
    bucket: index.exactOptional().describe('bucket of gradients, from 0'),
    hop: index.exactOptional().describe('hop of the collective, from 0'),
  })
  .refine(({ phase, bucket, hop }) => isCollective(phase) || (bucket ?? hop) === undefined, {
    message: `expected a phase with buckets and hops (${collectivePhases.join(', ')}), or no bucket and hop`,
  });

const membershipPosition = z.strictObject({
  during: z.enum(membershipPhases),
  generation: stepNumber.exactOptional().describe('number of the membership, from 1'),
});

const timePosition = z.strictObject({ afterMs: z.number().min(0).max(86_400_000) });

const position = z.union([stepPosition, membershipPosition, timePosition]);

const duration = z
  .strictObject({ steps: stepNumber.exactOptional(), ms: milliseconds.exactOptional() })
  .refine(({ steps, ms }) => (steps === undefined) !== (ms === undefined), {
    message: 'expected either steps or ms',
  });

const at = { at: position };
const lasting = { for: duration.exactOptional() };
const tpu = { tpu: index };

const link = z.union([
  z
    .string()
    .regex(/^chip\(\d+,\d+\)[+-][xy]$/, 'expected the name of a link, such as "chip(3,1)+x"'),
  z.tuple([index, index]),
]);

const linkFault = z
  .strictObject({
    fault: z.enum(linkFaults),
    ...at,
    ...lasting,
    link,
    both: z.boolean().exactOptional(),
    ms: milliseconds.exactOptional(),
    jitterMs: milliseconds.exactOptional(),
    bytesPerSecond: z.number().min(1).max(1e15).exactOptional(),
    share: z.number().gt(0).max(1).exactOptional(),
  })
  .superRefine((it, context) => {
    const needs = { delay: 'ms', bandwidth: 'bytesPerSecond' } as const;
    const sharing: readonly string[] = frameFaults.filter((kind) => kind !== 'reset');
    const refuse = (path: string, message: string): void => {
      context.addIssue({ code: 'custom', path: [path], message });
    };
    for (const [kind, field] of Object.entries(needs)) {
      if (it.fault === kind && it[field] === undefined) refuse(field, `expected for ${kind}`);
      if (it.fault !== kind && it[field] !== undefined) refuse(field, `only for ${kind}`);
    }
    if (it.fault !== 'delay' && it.jitterMs !== undefined) refuse('jitterMs', 'only for delay');
    if (!sharing.includes(it.fault) && it.share !== undefined) {
      refuse('share', `only for ${sharing.join(', ')}`);
    }
  });

const kindOf = <const K extends string>(...kinds: readonly [K, ...K[]]) => ({
  fault: z.enum(kinds),
});

const fault = z.discriminatedUnion('fault', [
  z.strictObject({ ...kindOf(...endingFaults), ...tpu, ...at }),
  z.strictObject({ ...kindOf('pause'), ...tpu, ...at, for: duration }),
  z.strictObject({
    ...kindOf('slow'),
    ...tpu,
    ...at,
    ...lasting,
    factor: z.number().gt(1).max(1000),
  }),
  z.strictObject({
    ...kindOf('clock-jump'),
    ...tpu,
    ...at,
    ms: z.number().min(-86_400_000).max(86_400_000),
  }),
  z.strictObject({
    ...kindOf('flip-bit'),
    ...tpu,
    ...at,
    in: z.enum(memories),
    bit: index.exactOptional(),
  }),
  z.strictObject({
    ...kindOf('stuck-cell'),
    ...tpu,
    ...at,
    ...lasting,
    core: z.int().min(0).max(7),
    row: z.int().min(0).max(127),
    column: z.int().min(0).max(127),
  }),
  z.strictObject({ ...kindOf('join-twice', 'wrong-version'), ...tpu, ...at }),
  z.strictObject({ ...kindOf('join-late'), ...tpu, ...at, ms: milliseconds }),
  linkFault,
  z.strictObject({ ...kindOf('disk-full'), ...at, ...lasting }),
  z.strictObject({ ...kindOf('slow-disk'), ...at, ...lasting, ms: milliseconds }),
  z.strictObject({ ...kindOf('torn-write', 'lost-rename', 'unreadable-checkpoint'), ...at }),
  z.strictObject({ ...kindOf('master-kill', 'second-master'), ...at }),
  z.strictObject({ ...kindOf('master-pause', 'master-cut-off'), ...at, for: duration }),
  z.strictObject({ ...kindOf('lose-row'), ...at, row: index }),
  z.strictObject({ ...kindOf('lose-column'), ...at, column: index }),
  z.strictObject({
    ...kindOf('partition'),
    ...at,
    ...lasting,
    groups: z.array(z.array(index).min(1)).min(2),
  }),
]);

const bound = (of: 'time' | 'number', example: string) =>
  z.string().refine((text) => parseBound(text, of) !== undefined, {
    message: `expected a bound such as "${example}"`,
  });

const expectations = z.strictObject({
  weights: z.literal('bit-identical').exactOptional(),
  samples: z.literal('exactly-once').exactOptional(),
  steps: z.literal('committed-once').exactOptional(),
  recovery: z
    .strictObject({
      steps: bound('number', '<=1').exactOptional(),
      detection: bound('time', '<2s').exactOptional(),
      time: bound('time', '<10s').exactOptional(),
    })
    .exactOptional(),
  culprit: z.literal('named').exactOptional(),
  sometimes: z.array(z.enum(recoveryPaths)).exactOptional(),
  goodput: bound('number', '>=0.9').exactOptional(),
  outcome: z.enum(['done', 'failed']).exactOptional(),
});

const chance = z.strictObject({
  seed: z
    .int()
    .min(0)
    .max(2 ** 32 - 1),
  mtbfSteps: z.number().min(1).max(10_000_000),
  weights: z
    .partialRecord(z.enum(drawnKinds), z.number().min(0).max(1e6))
    .refine((it) => Object.values(it).some((weight) => weight > 0), {
      message: 'expected a kind of fault with a weight above 0',
    }),
});

/** Schema of a fault of a plan. */
export const faultSchema: z.ZodType<Fault> = fault;

/** The schema of a plan file. */
export const planSchema: z.ZodType<FaultPlan> = z.strictObject({
  run: z
    .record(z.string(), z.union([z.string(), z.number(), z.boolean()]))
    .default({})
    .describe('settings of the run, as in a --config file'),
  faults: z.array(fault).max(10_000).default([]),
  chance: chance.exactOptional(),
  expect: expectations.default({}),
});

/** Returns the JSON Schema of a plan file, for editors. */
export function planJsonSchema(): unknown {
  return z.toJSONSchema(planSchema, { io: 'input' });
}
