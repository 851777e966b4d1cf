import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { makeToken, replaceToken } from '../../cluster/image/token-file.ts';
import { splitWords } from '../../cluster/image/words.ts';
import { readToken } from '../../cluster/net/token.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'pod-prepare-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

test('splitWords returns quoted words unchanged', () => {
  const word = fc.string({ minLength: 1, unit: fc.constantFrom(...'ab-=\'" \t\n\\$*') });
  fc.assert(
    fc.property(
      fc.array(word),
      fc.infiniteStream(fc.constantFrom(' ', '\n', '  ')),
      (words, gap) => {
        const line = words.map(quoted).reduce((all, it) => all + it + gap.next().value, '');
        expect(splitWords(line)).toEqual(words);
      },
    ),
  );
});

test('an open quote is refused in any place', () => {
  for (const line of ["'", '--log "a b', 'a\'b" c', `'a' "b`]) {
    expect(() => splitWords(line)).toThrow(/POD_ARGS: expected a closing/);
  }
});

test('white space separates words, and quotes join them', () => {
  expect(splitWords('')).toEqual([]);
  expect(splitWords('  --model mlp\n--steps=3 ')).toEqual(['--model', 'mlp', '--steps=3']);
  expect(splitWords(`--log='a b' "" 'x'"y"z`)).toEqual(['--log=a b', '', 'xyz']);
});

test('makeToken writes a token once, readable by its owner only', () => {
  const path = join(folder, 'deep', 'pod-token');
  expect(makeToken(path)).toBe(true);
  const text = readFileSync(path, 'utf8');
  expect(Buffer.from(text, 'base64url').length).toBe(32);
  expect(statSync(path).mode & 0o777).toBe(0o400);
  expect(makeToken(path)).toBe(false);
  expect(readFileSync(path, 'utf8')).toBe(text);
  expect(readdirSync(join(folder, 'deep'))).toEqual(['pod-token']);
  expect(readToken({ POD_TOKEN_FILE: path }).warning).toBeUndefined();
});

test('tokens of two pods differ', () => {
  makeToken(join(folder, 'a'));
  makeToken(join(folder, 'b'));
  expect(readFileSync(join(folder, 'a'))).not.toEqual(readFileSync(join(folder, 'b')));
});

test("replaceToken writes the operator's token, unless it is too short or too long", () => {
  const path = join(folder, 'pod-token');
  writeFileSync(path, 'an old token of theirs\n');
  expect(() => replaceToken(path, 'short\n')).toThrow(/at least 16 characters.*found 5/);
  expect(() => replaceToken(path, 'x'.repeat(4097))).toThrow(/at most 4096 bytes, found more/);
  expect(readFileSync(path, 'utf8')).toBe('an old token of theirs\n');
  replaceToken(path, '  a token from elsewhere \n');
  expect(readFileSync(path, 'utf8')).toBe('a token from elsewhere\n');
  expect(readdirSync(folder)).toEqual(['pod-token']);
});

/**
 * Quotes a word for a shell. If the word contains at most one of the two kinds of quotes, the whole
 * word is put between quotes of the other kind. If it contains both kinds, its single quotes are
 * put between double quotes, and all other parts of the word between single quotes.
 */
function quoted(word: string): string {
  if (!word.includes("'")) return `'${word}'`;
  if (!word.includes('"')) return `"${word}"`;
  return word.replace(/'+|[^']+/g, (part) => (part.startsWith("'") ? `"${part}"` : `'${part}'`));
}
