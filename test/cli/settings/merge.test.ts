import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { sourceOfFile } from '../../../src/cli/settings/file.ts';
import { mergeSettings } from '../../../src/cli/settings/merge.ts';
import {
  flagOf,
  missingValue,
  type SettingKey,
  schema,
  settingKeys,
} from '../../../src/cli/settings/schema.ts';
import { askedSize } from '../../../src/cli/settings/size.ts';
import { type Source, sourceOfFlags } from '../../../src/cli/settings/source.ts';
import { asFlag, groupOf, refusal, someOf, yaml, yamlOf } from './values.ts';

type Values = ReadonlyMap<SettingKey, unknown>;

const inFiles = settingKeys.filter((key) => schema[key].inFile === true);

function ofFlags(values: Values): Source {
  return sourceOfFlags(Object.fromEntries([...values].map(([key, value]) => [key, asFlag(value)])));
}

/**
 * Removes each switch (boolean setting) that has its default value. The parser of flags returns
 * this value also if the flag is not given. So the merge cannot tell these two cases apart, and
 * counts the switch as not given.
 */
function asked(values: Values): Values {
  return new Map(
    [...values].filter(
      ([key, value]) => typeof value !== 'boolean' || value !== missingValue(key, 'train'),
    ),
  );
}

test('the later of two sources wins for each setting, and each value has its origin', () => {
  fc.assert(
    fc.property(someOf(inFiles), someOf(settingKeys), (inFile, inFlags) => {
      const file = yaml(yamlOf(inFile));
      const settings = mergeSettings('train', [sourceOfFile(file), ofFlags(inFlags)]);
      const [low, high] = [asked(inFile), asked(inFlags)];
      for (const key of settingKeys) {
        const isOverruled = groupOf(key).some((it) => high.has(it));
        const expected = high.has(key) ? high : isOverruled ? undefined : low;
        const found = settings.ask(key);
        if (expected?.has(key)) {
          const origin = expected === high ? flagOf(key) : `${key} in ${file}`;
          expect(found).toEqual({ value: expected.get(key), origin });
        } else {
          expect(found).toBeUndefined();
          expect(settings.get(key)).toEqual(missingValue(key, 'train'));
          expect(settings.origin(key)).toBe('default');
        }
      }
    }),
    { numRuns: 100 },
  );
});

test('the order of settings within a source does not matter', () => {
  const shuffled = someOf(settingKeys).chain((values) =>
    fc.tuple(
      fc.constant(values),
      fc
        .shuffledSubarray([...values], { minLength: values.size })
        .map((entries): Values => new Map(entries)),
    ),
  );
  fc.assert(
    fc.property(someOf(settingKeys), shuffled, (low, [high, other]) => {
      const merged = (it: Values) => mergeSettings('train', [ofFlags(low), ofFlags(it)]);
      for (const key of settingKeys) expect(merged(high).ask(key)).toEqual(merged(other).ask(key));
    }),
  );
});

test('kebab-case and camelCase keys in a file mean the same', () => {
  fc.assert(
    fc.property(someOf(inFiles), (values) => {
      const kebab = [...values].map(([key, value]): [SettingKey, unknown] => [
        key.replace(/[A-Z]/g, (it) => `-${it.toLowerCase()}`) as SettingKey,
        value,
      ]);
      const merged = (it: Values) => mergeSettings('train', [sourceOfFile(yaml(yamlOf(it)))]);
      const [camelCase, asFlags] = [merged(values), merged(new Map(kebab))];
      for (const key of settingKeys) {
        expect(asFlags.ask(key)?.value).toEqual(camelCase.ask(key)?.value);
      }
    }),
  );
});

describe('settings of one group override each other', () => {
  const size = (low: object, high: object) =>
    askedSize(mergeSettings('train', [sourceOfFlags({ ...low }), sourceOfFlags({ ...high })]));

  test('--topology overrides tpus of the file and vice versa', () => {
    expect(size({ tpus: 4 }, { topology: '2x1' })).toEqual({
      ...{ topology: { columns: 2, rows: 1 }, origin: '--topology' },
    });
    expect(size({ topology: '8x1' }, { tpus: 8 })?.topology).toEqual({ columns: 4, rows: 2 });
    expect(size({ tpus: 4, topology: '4x1' }, {})?.topology).toEqual({ columns: 4, rows: 1 });
  });

  test('--tpus and --topology of one source must agree', () => {
    expect(refusal(() => size({ topology: '1x1' }, { tpus: 8, topology: '2x2' })).message).toMatch(
      /^--tpus: expected 4, the Cloud TPUs of --topology 2x2, found 8; leave one of the two out$/,
    );
  });

  test('--steps overrides epochs of an earlier source', () => {
    const sources = [sourceOfFlags({ epochs: '2' }), sourceOfFlags({ steps: '7' })];
    const settings = mergeSettings('train', sources);
    expect([settings.get('steps'), settings.get('epochs')]).toEqual([7, undefined]);
  });
});

test('a wrong value is refused even if a later source overrides it', () => {
  const file = yaml('steps: many\n');
  const wrong = refusal(() =>
    mergeSettings('train', [sourceOfFile(file), sourceOfFlags({ steps: '3' })]),
  );
  expect(wrong.message).toBe(`steps in ${file}: expected a whole number, found "many"`);
});

test('a switch that the file turns off stays off if no flag was given', () => {
  const file = yaml('relaxedSimd: false\n');
  // If the user does not give the flag --no-relaxed-simd, the parser of flags returns relaxedSimd:
  // true. This value must not win over the value of the file.
  const flags = sourceOfFlags({ relaxedSimd: true });
  expect(mergeSettings('train', [sourceOfFile(file), flags]).get('relaxedSimd')).toBe(false);
});

describe('a mode refuses a setting that it does not take, from a file and from flags', () => {
  test.each(['compile', 'up', 'serve', 'master', 'job', 'devices'] as const)('%s', (mode) => {
    const refusedKeys = settingKeys.filter((key) => schema[key].places[mode] !== true);
    expect(refusedKeys.length).toBeGreaterThan(0);
    fc.assert(
      fc.property(someOf(refusedKeys), (values) => {
        const [key] = asked(values).keys();
        if (key === undefined) return;
        const reason = schema[key].places[mode];
        const only = new Map([[key, values.get(key)]]);
        expect(refusal(() => mergeSettings(mode, [ofFlags(only)]))).toMatchObject({
          ...{ code: 'bad-flag', message: `${flagOf(key)}: ${reason}` },
        });
        if (schema[key].inFile !== true) return;
        const file = yaml(yamlOf(only));
        expect(refusal(() => mergeSettings(mode, [sourceOfFile(file)]))).toMatchObject({
          ...{ code: 'bad-flag', message: `${key} in ${file}: ${reason}` },
        });
      }),
    );
  });
});
