import fc from 'fast-check';
import { expect, test } from 'vitest';
import { stringify } from 'yaml';
import {
  parseSettingsText,
  type SettingsText,
  settingsLengthMax,
} from '../../src/cli/settings-text.ts';

const keys = fc.stringMatching(/^[a-z][a-zA-Z-]{0,12}$/);
const values = fc.oneof(
  fc.string(),
  fc.double(),
  fc.integer(),
  fc.boolean(),
  fc.constant(null),
  fc.array(fc.integer(), { maxLength: 3 }),
);

test('settings that were written as YAML are read as they were, in their order', () => {
  fc.assert(
    fc.property(fc.dictionary(keys, values, { maxKeys: 12, minKeys: 1 }), (settings) => {
      const read = parseSettingsText(stringify(settings));
      expect(read).toMatchObject({
        kind: 'settings',
        settings: Object.entries(settings).map(([key, value]) => ({ key, value })),
      });
    }),
  );
});

test('any text is read or refused in one line, in little time', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 2000 }), (text) => {
      const read = parseSettingsText(text);
      if (read.kind === 'refused') expect(sentence(read)).toMatch(/^[^\p{Cc}]{1,400}$/u);
    }),
  );
});

test('each setting has the number of its line', () => {
  const read = parseSettingsText('# a run\nmodel: mlp\n\nsteps: &n 20 # short\nevaluate: *n\n');
  expect(read).toEqual({
    kind: 'settings',
    settings: [
      { key: 'model', value: 'mlp', line: 2 },
      { key: 'steps', value: 20, line: 4 },
      { key: 'evaluate', value: 20, line: 5 },
    ],
  });
});

test('a key that JavaScript treats in a special way is a setting like others', () => {
  expect(parseSettingsText('__proto__: 1\nconstructor: 2\n')).toMatchObject({
    settings: [
      { key: '__proto__', value: 1 },
      { key: 'constructor', value: 2 },
    ],
  });
});

const length = settingsLengthMax - 100;
const lines = (count: number, line: (i: number) => string): string =>
  Array.from({ length: count }, (_, i) => line(i)).join('\n');

/** Texts that take some parsers minutes, gigabytes or all of their stack. */
const hostile: Readonly<Record<string, string>> = {
  '300,000 keys': lines(300_000, (i) => `key${i}: 1`),
  '10,000 keys': lines(9000, (i) => `${i.toString(36)}: 1`),
  '1,000 keys': lines(1000, (i) => `key${i}: 1`),
  '10,000 levels of lists': `a: ${'['.repeat(10_000)}${']'.repeat(10_000)}`,
  '10,000 levels that do not end': `a: ${'['.repeat(10_000)}`,
  '10,000 levels of fields': '{a: '.repeat(10_000),
  '1,000 levels of fields': `${'{a: '.repeat(900)}1${'}'.repeat(900)}`,
  '10,000 levels of dashes': '- '.repeat(10_000),
  '1,000 levels of dashes': '- '.repeat(1000),
  '10,000 levels of complex keys': '? '.repeat(10_000),
  '300 levels of blocks': lines(300, (i) => `${' '.repeat(i)}a:`),
  'aliases of aliases': `a: &a [x,x,x,x,x,x,x,x,x]\n${lines(
    20,
    (i) =>
      `b${i}: &b${i} [${Array(9)
        .fill(i === 0 ? '*a' : `*b${i - 1}`)
        .join(',')}]`,
  )}`,
  'an alias of itself': 'a: &a [*a]',
  'an alias of nothing': 'a: *b',
  'as many commas as fit': `[${','.repeat(length)}`,
  'as many anchors as fit': `a: ${'&a '.repeat(length / 3)}`,
  'as many tags as fit': `a: ${'!a '.repeat(length / 3)}`,
  'a tag that nobody knows': 'steps: !!js/function "x"',
  'as many colons as fit': ': '.repeat(length / 2),
  'many documents': '---\n'.repeat(length / 4),
  'two documents': 'model: mlp\n---\nmodel: cnn\n',
  'as many directives as fit': '%a\n'.repeat(length / 3),
  zeros: '\0'.repeat(length),
  'a quote that is left open': `a: "${'x\n'.repeat(length / 2 - 10)}`,
  'a key that is there twice': 'steps: 1\nsteps: 2\n',
  'a key that is a number': '1: 2',
  'a key that is a list': '[a, b]: 2',
  'terminal escapes': '\u001b[2J: [',
  nothing: '',
  'a comment': '# nothing\n',
  'a list': '- model: mlp',
  'a word': 'cnn',
  null: 'null',
};

test.each(Object.entries(hostile))('%s: refused in a line, within a second', (_, text) => {
  const beganMs = performance.now();
  const read = parseSettingsText(text);
  expect(performance.now() - beganMs).toBeLessThan(1000);
  expect(read.kind).toBe('refused');
  expect(sentence(read)).toMatch(/^expected [^\p{Cc}]+, found [^\p{Cc}]+$/u);
  expect(sentence(read).length).toBeLessThan(300);
});

test('a text as long as may be, nearly all of it comments, is read', () => {
  const text = `${'# why we chose these\n'.repeat(3000)}model: mlp\n`;
  expect(parseSettingsText(text)).toMatchObject({ settings: [{ key: 'model', line: 3001 }] });
});

function sentence(read: SettingsText): string {
  return read.kind === 'refused' ? `expected ${read.expected}, found ${read.found}` : 'read';
}
