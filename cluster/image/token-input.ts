/**
 * Replaces the join token by the operator's own, read from standard input:
 *   docker compose run --rm --no-deps --no-TTY master set-token <my-token
 */
import { readSync } from 'node:fs';
import { messageOf, PodError } from '../../src/numerics/error.ts';
import { tokenBytesMax, tokenPath } from '../net/token.ts';
import { replaceToken } from './token-file.ts';

try {
  replaceToken(tokenPath(process.env), readInput());
  process.stdout.write('the token was replaced\n');
} catch (error) {
  const code = error instanceof PodError ? error.code : 'io';
  process.stderr.write(`pod: ${code}: ${messageOf(error)}\n`);
  process.exitCode = error instanceof PodError ? error.exitCode : 5;
}

/**
 * Returns the text on standard input. Reads at most one byte more than the longest token has. That
 * byte is enough to show that the text is too long.
 */
function readInput(): string {
  const bytes = Buffer.alloc(tokenBytesMax + 1);
  let end = 0;
  for (let count = 1; count > 0 && end < bytes.length; end += count) {
    count = readSync(0, bytes, end, bytes.length - end, null);
  }
  return bytes.toString('utf8', 0, end);
}
