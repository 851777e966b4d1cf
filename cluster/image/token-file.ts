import { randomBytes } from 'node:crypto';
import { existsSync, linkSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { makeDirectory } from '../../src/files/make-directory.ts';
import { PodError } from '../../src/numerics/error.ts';
import { tokenBytesMax, tokenLengthMin } from '../net/token.ts';

/**
 * Makes a join token of 32 random bytes and writes it to the file `path`, which only the owner can
 * read. If the file exists already, leaves it as it is. The file appears only when the token is
 * complete. If two processes make a token at the same time, the first token to be written stays.
 *
 * @returns true if this call made the token.
 */
export function makeToken(path: string): boolean {
  if (existsSync(path)) return false;
  const draft = writeDraft(path, randomBytes(32).toString('base64url'));
  try {
    linkSync(draft, path);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  } finally {
    rmSync(draft);
  }
}

/**
 * Replaces the join token in the file `path` by `text`, a token that the operator chose.
 *
 * @throws PodError `bad-config` if the token is too short or too long.
 */
export function replaceToken(path: string, text: string): void {
  const token = text.trim();
  const length = token.length;
  if (length < tokenLengthMin || Buffer.byteLength(text) > tokenBytesMax) {
    const expected = `at least ${tokenLengthMin} characters, at most ${tokenBytesMax} bytes`;
    const found = length < tokenLengthMin ? `${length} characters` : 'more bytes';
    throw new PodError(
      'bad-config',
      `token on standard input: expected ${expected}, found ${found}`,
    );
  }
  renameSync(writeDraft(path, token), path);
}

/**
 * Writes the token to a new file beside `path` and returns the name of that file. The caller then
 * moves the complete file to `path`.
 */
function writeDraft(path: string, token: string): string {
  makeDirectory(dirname(path), 0o700);
  const draft = `${path}.${randomBytes(6).toString('hex')}`;
  try {
    writeFileSync(draft, `${token}\n`, { mode: 0o400, flag: 'wx', flush: true });
    return draft;
  } catch (error) {
    rmSync(draft, { force: true });
    throw error;
  }
}
