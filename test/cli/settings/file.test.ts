import { execFileSync } from 'node:child_process';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { sourceOfFile } from '../../../src/cli/settings/file.ts';
import { mergeSettings } from '../../../src/cli/settings/merge.ts';
import { refusal, yaml } from './values.ts';

function wrong(text: string | Uint8Array): { code: string; message: string } {
  const file = yaml(text);
  const { code, message } = refusal(() => mergeSettings('train', [sourceOfFile(file)]));
  return { code, message: message.replaceAll(file, 'FILE') };
}

test.each<[string, string]>([
  // Each text sets one setting twice.
  ['global-batch: 8\nglobalBatch: 8', 'globalBatch: the same setting as global-batch in FILE'],
  ['warmUp: 0\nwarm-up: 1', 'warm-up: the same setting as warmUp in FILE'],
  ['steps: 3\nsteps: 4', 'steps: given twice'],
  ['"steps": 3\nsteps: 3', 'steps: given twice'],
])('%j is refused because it sets one setting twice', (text, what) => {
  expect(wrong(text)).toEqual({
    ...{ code: 'bad-config', message: `--config FILE: ${what}; leave one out` },
  });
});

test.each<[string, string]>([
  ['learningRate: .inf', 'learningRate in FILE: expected a number, found .inf'],
  ['learning-rate: .nan', 'learning-rate in FILE: expected a number, found .nan'],
  ['steps: 1e999', 'steps in FILE: expected a whole number, found 1e999'],
  ['steps: 0x0', 'steps in FILE: expected at least 1, found 0x0'],
  ['steps:', 'steps in FILE: expected a whole number, found nothing'],
  ['steps: ~', 'steps in FILE: expected a whole number, found ~'],
  ['steps: [3,\n 4]', 'steps in FILE: expected a whole number, found [3, 4]'],
  ['steps: "3 4"', 'steps in FILE: expected a whole number, found "3 4"'],
  ['relaxedSimd: maybe', 'relaxedSimd in FILE: expected true or false, found "maybe"'],
  ['relaxed-simd: 1', 'relaxed-simd in FILE: expected true or false, found 1'],
  ['resume: yes', 'resume in FILE: expected true or false, found "yes"'],
  ['model: 3', 'model in FILE: expected one of mlp, cnn, found 3'],
  ['log: 5', 'log in FILE: expected text, found 5'],
  [
    'checkpoint: "a\\0b"',
    'checkpoint in FILE: expected text without a NUL character, found "a\\u0000b"',
  ],
  ['data: cifar', 'data in FILE: expected one of digits, digits:SIZE, mnist:DIR, found "cifar"'],
  ['print: fusion', 'print in FILE: not possible in a file; use the flag --print'],
])('%j is refused with a message that quotes the value as written', (text, message) => {
  expect(wrong(text)).toEqual({ code: 'bad-flag', message });
});

test.each<[string, string | Uint8Array, RegExp]>([
  [
    'an unknown key',
    'modell: cnn',
    /^modell in FILE: there is no such setting; expected one of tpus/,
  ],
  ['a key of the prototype', '__proto__: 1', /^__proto__ in FILE: there is no such setting/],
  ['a key that is no word', '? [1]\n: 2', /^\[1\] in FILE: there is no such setting/],
  ['a merge', '<<: {steps: 3}', /^<< in FILE: there is no such setting/],
  ['a long key', `${'k'.repeat(1000)}: 1`, /^k{50,60}… in FILE: there is no such setting/],
  ['nothing', '# model: mlp\n', /^--config FILE: expected settings such as .* found nothing$/],
  ['a list', '- 1\n- 2', /^--config FILE: expected settings such as .* found - 1 - 2$/],
  [
    'a tag',
    'steps: !foo 3',
    /^--config FILE: expected YAML, found: Unresolved tag: !foo at line 1/,
  ],
  ['an unknown alias', 'steps: *three', /^--config FILE: expected YAML, found: .*alias.*three/],
  ['two documents', 'steps: 3\n---\nsteps: 4', /^--config FILE: expected one YAML document, found/],
  ...['[', '{a: ', '- ', '? ', '[{'].map((it): [string, string, RegExp] => [
    `what goes too deep, ${it}`,
    it.repeat(30_000 / it.length),
    /^--config FILE: expected settings, found values nested more than 20 deep$/,
  ]),
  [
    'what is too large',
    `${' '.repeat(40_000)}\n`,
    /^--config FILE: .* found 40001 bytes, more than/,
  ],
  ['no text', Uint8Array.of(0xff, 0xfe), /^--config FILE: .* found bytes that are not UTF-8 text$/],
])('%s is refused', (_, text, message) => {
  expect(wrong(text)).toEqual({ code: 'bad-config', message: expect.stringMatching(message) });
});

test('a settings file that is no regular file is refused without waiting', () => {
  const pipe = `${yaml('')}.pipe`;
  execFileSync('mkfifo', [pipe]);
  const found: [string, string][] = [
    ['no-such.yaml', 'nothing there'],
    ['.', 'a folder'],
    ['/dev/zero', 'a device'],
    [pipe, 'a pipe'],
  ];
  for (const [file, kind] of found) {
    expect(refusal(() => sourceOfFile(file))).toMatchObject({
      ...{ code: 'bad-config', message: `--config ${file}: expected a YAML file, found ${kind}` },
    });
  }
});

test('any text of a file gives settings or an error of one line', () => {
  const piece = fc.oneof(
    fc.constantFrom(...['steps', 'global-batch', 'model', ': ', '\n', '- ', '&a ', '*a', '!!str ']),
    fc.constantFrom(
      ...['"', "'", '[', '{', '}', '|', '>', '#', '%', '@', '`', '? ', '---\n', '\t'],
    ),
    fc.string({ maxLength: 5 }),
    fc.nat(100).map(String),
  );
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 30 }), (pieces) => {
      const file = yaml(pieces.join(''));
      try {
        mergeSettings('train', [sourceOfFile(file)]);
      } catch (error) {
        expect(error).toMatchObject({ name: 'PodError', exitCode: 2 });
        expect((error as Error).message).not.toContain('\n');
      }
    }),
    { numRuns: 300 },
  );
});

test('a value may be a YAML alias of another value', () => {
  const file = yaml('steps: &n 30\nevaluate: *n\n');
  const settings = mergeSettings('train', [sourceOfFile(file)]);
  expect([settings.get('steps'), settings.get('evaluate')]).toEqual([30, 30]);
});
