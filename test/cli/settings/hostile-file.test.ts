import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, expect, test } from 'vitest';
import { sourceOfFile } from '../../../src/cli/settings/file.ts';
import { PodError } from '../../../src/numerics/error.ts';

const folder = mkdtempSync(join(tmpdir(), 'pod-hostile-settings-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** A length in bytes just below the limit of a settings file. */
const length = 2 ** 15 - 100;
const lines = (count: number, line: (i: number) => string): string =>
  Array.from({ length: count }, (_, i) => line(i)).join('\n');

/**
 * Texts of settings files that must be refused at once. For some of them, a careless parser would
 * need minutes, gigabytes of memory or more stack than there is.
 */
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

test.each(Object.entries(hostile))('%s: refused in one line within a second', (_, text) => {
  const beganMs = performance.now();
  const message = refusal(text);
  expect(performance.now() - beganMs).toBeLessThan(1000);
  expect(message).toMatch(/^[^\p{Cc}]{20,500}$/u);
});

test('any text is read or refused in one line', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 2000 }), (text) => {
      expect(refusal(text) ?? 'read').toMatch(/^[^\p{Cc}\u202a-\u202e]{1,500}$/u);
    }),
  );
});

/** Returns the message that refuses a file with this text, or undefined if the file is accepted. */
function refusal(text: string): string | undefined {
  const file = join(folder, 'run.yaml');
  writeFileSync(file, text);
  try {
    sourceOfFile(file);
    return undefined;
  } catch (error) {
    expect(error).toBeInstanceOf(PodError);
    expect(error).toMatchObject({ code: 'bad-config' });
    return (error as PodError).message;
  }
}
