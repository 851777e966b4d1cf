import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll } from 'vitest';
import { type SettingKey, type SettingValues, schema } from '../../../src/cli/settings/schema.ts';
import { scheduleNames } from '../../../src/experiment/config.ts';
import { networkNames } from '../../../src/model/networks.ts';
import { PodError } from '../../../src/numerics/error.ts';
import { logLevels } from '../../../src/observe/log.ts';
import { recoveryPolicies } from '../../../src/pod/master/options.ts';

/** Arbitrary paths. Some have quotes, blanks, newlines or leading dashes. */
const path = fc.oneof(
  fc.string({ minLength: 1, unit: fc.constantFrom(...'ab-=\'" \t\n\\$*#:{}é') }),
  fc.constantFrom('--', '-x', "it's", '"a" \'b\'', 'true', '1', 'null', '.inf', '[a]'),
);
const share = fc.double({ min: 0, max: 1, noNaN: true }).map((it) => it + 0);

/** Arbitrary valid values of each setting. */
export const valid: { readonly [K in SettingKey]: fc.Arbitrary<SettingValues[K]> } = {
  tpus: fc.constantFrom(1, 2, 4, 8, 16, 32, 64),
  topology: fc.tuple(fc.integer({ min: 1, max: 8 }), fc.integer({ min: 1, max: 8 })).map(grid),
  model: fc.constantFrom(...networkNames),
  data: fc.oneof(
    fc.constantFrom('digits', 'digits:1234'),
    path.map((it) => `mnist:${it}`),
  ),
  globalBatch: fc.integer({ min: 1, max: 1 << 20 }),
  steps: fc.integer({ min: 1, max: 10_000_000 }),
  epochs: fc.double({ min: 1e-6, max: 100_000, noNaN: true }),
  learningRate: fc.double({ min: 0, max: 1e6, noNaN: true }).map((it) => it + 0),
  schedule: fc.constantFrom(...scheduleNames),
  warmUp: share,
  momentum: share,
  seed: fc.integer({ min: 0, max: 0xffff_ffff }),
  precision: fc.constantFrom('bf16', 'f32'),
  mxu: fc.constantFrom('fast', 'systolic'),
  remat: fc.constantFrom('auto', 'always', 'never'),
  recovery: fc.constantFrom(...recoveryPolicies),
  evaluate: fc.integer({ min: 1 }),
  relaxedSimd: fc.boolean(),
  startFrom: path,
  checkpoint: path,
  every: fc.integer({ min: 1 }),
  keep: fc.integer({ min: 1 }),
  resume: fc.boolean(),
  log: path,
  logLevel: fc.constantFrom(...logLevels),
  report: path,
  run: path,
  json: fc.boolean(),
  print: path,
};

function grid([columns, rows]: [number, number]): string {
  return `${columns}x${rows}`;
}

/** Arbitrary subsets of `keys` with valid values, in any order. */
export function someOf(
  keys: readonly SettingKey[],
): fc.Arbitrary<ReadonlyMap<SettingKey, unknown>> {
  return fc.shuffledSubarray([...keys]).chain((some) =>
    fc.tuple(...some.map((key) => valid[key] as fc.Arbitrary<unknown>)).map((values) => {
      return new Map(some.map((key, i) => [key, values[i]]));
    }),
  );
}

/** Returns a value as the parser of flags returns it: a boolean as it is, all others as text. */
export function asFlag(value: unknown): unknown {
  return typeof value === 'boolean' ? value : String(value);
}

/** Returns all settings of the group to which `key` belongs, with `key` itself. */
export function groupOf(key: SettingKey): SettingKey[] {
  const keys = Object.keys(schema) as SettingKey[];
  const { group } = schema[key];
  return group === 'own' ? [key] : keys.filter((it) => schema[it].group === group);
}

let folder: string | undefined;
afterAll(() => {
  if (folder !== undefined) rmSync(folder, { recursive: true });
});

/** Writes a settings file with this text. Returns its path. */
export function yaml(text: string | Uint8Array, name = 'run.yaml'): string {
  folder ??= mkdtempSync(join(tmpdir(), 'pod-'));
  const file = join(folder, name);
  writeFileSync(file, text);
  return file;
}

/** Returns settings as the text of a YAML file. Values are JSON, which is valid YAML. */
export function yamlOf(values: ReadonlyMap<SettingKey, unknown>): string {
  const lines = [...values].map(([key, value]) => `${key}: ${JSON.stringify(value)}`);
  return lines.length === 0 ? '{}' : lines.join('\n');
}

/**
 * Returns the PodError that `work` throws. Fails if `work` throws none, or if the message has more
 * than one line or more than 600 characters.
 */
export function refusal(work: () => unknown): PodError {
  try {
    work();
  } catch (error) {
    if (!(error instanceof PodError)) throw error;
    if (/\n/.test(error.message) || error.message.length > 600) throw new Error(error.message);
    return error;
  }
  throw new Error('nothing was refused');
}
