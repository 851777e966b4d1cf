import { randomBytes } from 'node:crypto';
import { existsSync, linkSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { PodError } from '../../src/numerics/error.ts';
import { tokenBytesMax, tokenLengthMin } from '../net/token.ts';

/**
 * Makes a join token of 32 random bytes at `path` if there is no file. Only the owner can read the
 * file, and it never exists half-written. If two processes make it at the same time, the first
 * one's token stays.
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
 * Replaces the token at `path` by the operator's own.
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

/** Writes the token to a new file beside `path` and returns the name of that file. */
function writeDraft(path: string, token: string): string {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  const draft = `${path}.${randomBytes(6).toString('hex')}`;
  try {
    writeFileSync(draft, `${token}\n`, { mode: 0o400, flag: 'wx', flush: true });
    return draft;
  } catch (error) {
    rmSync(draft, { force: true });
    throw error;
  }
}
