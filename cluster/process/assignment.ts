import { createHash } from 'node:crypto';
import { z } from 'zod';
import { openDataset } from '../../src/data/open.ts';
import { scheduleNames, type TrainConfig, totalSteps } from '../../src/experiment/config.ts';
import { buildPrograms } from '../../src/experiment/programs.ts';
import type { Executable } from '../../src/isa/executable.ts';
import { networkNames } from '../../src/model/networks.ts';
import { assert, at } from '../../src/numerics/assert.ts';
import { PodError } from '../../src/numerics/error.ts';
import { recoveryPolicies } from '../../src/pod/master.ts';
import type { Program } from '../../src/pod/pod.ts';

/**
 * What the master gives a worker to do: enough to compile the same programs, which are too large to
 * be sent, and the hash that they must have.
 */
export interface Assignment {
  readonly config: TrainConfig;
  readonly relaxed: boolean;
  /** The programs but for their executables, in order. */
  readonly programs: readonly Omit<Program, 'executable'>[];
  readonly hash: string;
}

const count = z.int().min(0);
const schema = z.strictObject({
  config: z.strictObject({
    topology: z.strictObject({ columns: z.int().min(1), rows: z.int().min(1) }),
    model: z.enum(networkNames),
    data: z.string(),
    globalBatch: z.int().min(1),
    length: z.discriminatedUnion('unit', [
      z.strictObject({ unit: z.literal('steps'), steps: z.int().min(1) }),
      z.strictObject({ unit: z.literal('epochs'), epochs: z.number().positive() }),
    ]),
    learningRate: z.number(),
    schedule: z.enum(scheduleNames),
    warmUp: z.number(),
    momentum: z.number(),
    seed: count,
    precision: z.enum(['bf16', 'f32']),
    mxu: z.enum(['fast', 'systolic']),
    evaluate: z.int().min(1).optional(),
    recovery: z.enum(recoveryPolicies),
  }),
  relaxed: z.boolean(),
  programs: z.array(
    z.strictObject({
      digested: count,
      parametersFrom: count.optional(),
      feed: z
        .strictObject({
          dataset: z.string(),
          datasetSeed: count,
          split: z.enum(['train', 'test']),
          globalBatch: z.int().min(1),
          order: z.enum(['training', 'evaluation']),
          orderSeed: count,
        })
        .optional(),
    }),
  ),
  hash: z.string(),
});

export function encodeAssignment(assignment: Assignment): string {
  return JSON.stringify(assignment);
}

/** Throws `bad-config`, naming the field, when it is not an assignment. */
export function decodeAssignment(text: string): Assignment {
  const result = schema.safeParse(JSON.parse(text));
  if (result.success) {
    const { config } = result.data;
    return { ...result.data, config: { ...config, evaluate: config.evaluate } } as Assignment;
  }
  const issue = result.error.issues[0];
  throw new PodError('bad-config', `assignment: ${issue?.path.join('.')}: ${issue?.message}`);
}

/** The programs of an assignment, compiled, and what the first one's parameters start from. */
export interface Built {
  readonly programs: readonly Program[];
  readonly initialValues: readonly Uint8Array[];
  readonly hash: string;
}

export function build({ config, programs }: Assignment): Built {
  const dataset = openDataset(config.data, config.seed);
  const steps = totalSteps(config, dataset.train.size);
  const { train, evaluate, initialValues } = buildPrograms(config, dataset, steps);
  const executables = [train, evaluate];
  assert(programs.length === executables.length, `an assignment of ${programs.length} programs`);
  return {
    programs: programs.map((it, i) => ({ ...it, executable: at(executables, i) })),
    initialValues,
    hash: hashExecutables(executables),
  };
}

/** A hash over all that executables say, code and tables included; in hexadecimal digits. */
export function hashExecutables(executables: readonly Executable[]): string {
  const hash = createHash('sha256');
  hash.update(JSON.stringify(executables, (_, value: unknown) => plain(value)));
  return hash.digest('hex');
}

/** A hash over values, one after another, with their lengths. */
export function hashValues(values: readonly Uint8Array[]): string {
  const hash = createHash('sha256');
  for (const value of values) hash.update(`${value.length}:`).update(value);
  return hash.digest('hex');
}

/** What JSON would lose, as text. */
function plain(value: unknown): unknown {
  if (ArrayBuffer.isView(value)) {
    const bytes = new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
    return `${bytes.length}:${createHash('sha256').update(bytes).digest('hex')}`;
  }
  if (typeof value !== 'number') return value;
  return Number.isFinite(value) && !Object.is(value, -0) ? value : `number ${value}`;
}
