import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { splitWords } from '../../../cluster/image/words.ts';
import { mergeSettings, type Settings } from '../../../src/cli/settings/merge.ts';
import { flagOf, type SettingKey, settingKeys } from '../../../src/cli/settings/schema.ts';
import { sourceOfFlags } from '../../../src/cli/settings/source.ts';
import { joinWords, parseWords, UnknownWords, wordsOf } from '../../../src/cli/settings/words.ts';
import { asFlag, refusal, someOf } from './values.ts';

const wording = { where: 'POD_ARGS', origin: flagOf };

function settingsOf(values: ReadonlyMap<SettingKey, unknown>): Settings {
  const flags = Object.fromEntries([...values].map(([key, value]) => [key, asFlag(value)]));
  return mergeSettings('train', [sourceOfFlags(flags)]);
}

test('settings survive the way to words, to one line, and back', () => {
  fc.assert(
    fc.property(someOf(settingKeys), (values) => {
      const settings = settingsOf(values);
      const words = wordsOf(settings);
      expect(splitWords(joinWords(words))).toEqual(words);
      const again = mergeSettings('train', [parseWords(words, wording).source]);
      expect(new Map(again.given)).toEqual(new Map(settings.given));
    }),
    { numRuns: 500 },
  );
});

test('any words survive being joined to one line and split again', () => {
  const word = fc.oneof(
    fc.string(),
    fc.string({ unit: fc.constantFrom(...'ab-=\'" \t\n\\$*') }),
    fc.constantFrom('', "'", '"', `'"`, `"'`, `a'b"c`),
  );
  fc.assert(
    fc.property(fc.array(word), (words) => {
      expect(splitWords(joinWords(words))).toEqual(words);
    }),
    { numRuns: 500 },
  );
});

describe('a flag that is given twice is refused', () => {
  test.each<[string[], string]>([
    [['--steps', '3', '--steps', '4'], '--steps'],
    [['--steps', '3', '--steps', '3'], '--steps'],
    [['--steps=3', '--model', 'mlp', '--steps', '4'], '--steps'],
    [['--resume', '--resume'], '--resume'],
    [['--no-relaxed-simd', '--no-relaxed-simd'], '--no-relaxed-simd'],
    [['--config', 'a', '--config', 'b'], '--config'],
    [['--learning-rate', '1', '--learning-rate=2'], '--learning-rate'],
  ])('%j', (words, flag) => {
    expect(refusal(() => parseWords(words, wording))).toMatchObject({
      ...{ code: 'bad-flag', message: `${flag}: given twice; leave one out` },
    });
  });
});

test.each<[string[], RegExp]>([
  [['--modle', 'mlp'], /^POD_ARGS: unknown option '--modle' \(Did you mean --model\?\)$/],
  [['mlp'], /^POD_ARGS: too many arguments/],
  [['--steps'], /^POD_ARGS: option '--steps <n>' argument missing$/],
  [['--help'], /^POD_ARGS: a request for help$/],
])('words that are no flags of pod train throw UnknownWords: %j', (words, message) => {
  const error = refusal(() => parseWords(words, wording));
  expect(error).toBeInstanceOf(UnknownWords);
  expect(error).toMatchObject({ code: 'bad-flag', message: expect.stringMatching(message) });
});
