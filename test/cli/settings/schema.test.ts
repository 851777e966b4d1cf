import { Command } from 'commander';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { optionsOf } from '../../../src/cli/options.ts';
import { addSettingFlags } from '../../../src/cli/settings/command.ts';
import { mergeSettings } from '../../../src/cli/settings/merge.ts';
import {
  flagOf,
  missingText,
  modes,
  type SettingKey,
  schema,
  settingKeys,
} from '../../../src/cli/settings/schema.ts';
import { sourceOfFlags } from '../../../src/cli/settings/source.ts';
import { openDataset } from '../../../src/data/open.ts';
import { identityOf, keyOf, type RunKey } from '../../../src/experiment/same-run.ts';
import { asFlag, valid } from './values.ts';

const columns = [
  ...['check', 'flag', 'help', 'missing', 'bits', 'group', 'path', 'inFile', 'places'],
].sort();

describe.each(settingKeys)('%s', (key) => {
  const setting = schema[key];

  test('has exactly the columns of the table', () => {
    expect(Object.keys(setting).sort()).toEqual(columns);
    expect(Object.keys(setting.places).sort()).toEqual([...modes].sort());
    for (const place of [...Object.values(setting.places), setting.inFile]) {
      if (place !== true) expect(place).toMatch(/^\S.{10,}[^.]$/);
    }
    expect(setting.help.length).toBeGreaterThan(5);
    expect('value' in setting.missing || 'text' in setting.missing).toBe(true);
    expect(setting.places.train).toBe(true);
  });

  test('has a flag with its name', () => {
    const kebab = key.replace(/[A-Z]/g, (it) => `-${it.toLowerCase()}`);
    expect([`--${kebab}`, `--no-${kebab}`]).toContain(flagOf(key));
  });

  test('accepts its default and all values that the tests consider valid', () => {
    const { missing } = setting;
    if ('value' in missing) expect(setting.check.safeParse(missing.value).success).toBe(true);
    fc.assert(
      fc.property(valid[key] as fc.Arbitrary<unknown>, (value) => {
        expect(setting.check.parse(value)).toEqual(value);
        expect(setting.check.parse(asFlag(value))).toEqual(value);
      }),
    );
  });
});

test('no two settings have the same flag', () => {
  expect(new Set(settingKeys.map(flagOf)).size).toBe(settingKeys.length);
});

test.each(modes)('%s has the flags of its settings, with defaults in their help', (mode) => {
  const { options } = addSettingFlags(new Command(), mode);
  const expected = settingKeys.filter((key) => schema[key].places[mode] === true).map(flagOf);
  expect(options.map(({ long }) => long)).toEqual([
    ...expected,
    ...(mode === 'devices' ? [] : ['--config']),
  ]);
  for (const key of settingKeys) {
    const option = options.find(({ long }) => long === flagOf(key));
    const missing = missingText(key, mode);
    if (option !== undefined && missing !== '') {
      expect(option.description.endsWith(`(default ${missing})`)).toBe(true);
    }
  }
});

/** Flags of a run. They set every setting whose default value depends on other settings. */
const base = { tpus: '2', globalBatch: '64', steps: '6', data: 'digits:300', learningRate: '0.05' };

/** For each setting, values that differ from those in `base` and that a run accepts. */
const others: { readonly [K in SettingKey]: readonly unknown[] } = {
  tpus: ['4', '8'],
  topology: ['1x2', '2x2'],
  model: ['mlp'],
  data: ['digits:301'],
  globalBatch: ['128'],
  steps: ['5', '60'],
  epochs: ['1', '2.5'],
  learningRate: ['0.06'],
  schedule: ['constant', 'linear-scaling', 'piecewise'],
  warmUp: ['0', '0.9'],
  momentum: ['0', '0.8'],
  seed: ['1'],
  precision: ['f32'],
  mxu: ['systolic'],
  remat: ['always', 'never'],
  recovery: ['replace', 'slice-restart'],
  evaluate: ['1', '100'],
  relaxedSimd: [false],
  startFrom: ['dir'],
  checkpoint: ['dir'],
  every: ['7'],
  keep: ['1'],
  resume: [true],
  log: ['run.log'],
  logLevel: ['debug', 'error'],
  report: ['run.json'],
  run: ['dir'],
  json: [true],
  print: ['fusion'],
};

describe('the bits that depend on a setting are those that the table states', () => {
  test.each(settingKeys)('%s', (key) => {
    const changed = new Set(others[key].flatMap((value) => changedBy(key, value)));
    expect([...changed].sort()).toEqual([...schema[key].bits].sort());
  });
});

/**
 * Returns the fields of a run's key that change when the setting `key` gets the value `value`. The
 * key of a run has all that determines the bits of its weights.
 */
function changedBy(key: SettingKey, value: unknown): (keyof RunKey)[] {
  const scaled = key === 'globalBatch' ? { ...base, schedule: 'linear-scaling' } : base;
  const [before, after] = [keyWith(scaled), keyWith({ ...without(scaled, key), [key]: value })];
  return (Object.keys(before) as (keyof RunKey)[]).filter((it) => before[it] !== after[it]);
}

/**
 * Returns the flags that may stay if the setting `key` is given. Settings of one group exclude each
 * other, so flags of its group are left out. A setting of the group `own` excludes no other
 * setting.
 */
function without(flags: Readonly<Record<string, unknown>>, key: SettingKey) {
  const { group } = schema[key];
  const isOther = (name: string): boolean =>
    group === 'own' || schema[name as SettingKey].group !== group;
  return Object.fromEntries(Object.entries(flags).filter(([name]) => isOther(name)));
}

function keyWith(flags: Readonly<Record<string, unknown>>): RunKey {
  const needsFolder = ['every', 'keep', 'resume'].some((it) => it in flags);
  const all = {
    ...{ ...flags, ...(needsFolder && { checkpoint: 'dir' }) },
    ...('logLevel' in flags && { log: 'run.log' }),
  };
  const { config } = optionsOf(mergeSettings('train', [sourceOfFlags(all)]));
  const start = config.startFrom === undefined ? null : '0123456789abcdef';
  return keyOf(identityOf(config, openDataset(config.data, config.seed).train, start));
}
