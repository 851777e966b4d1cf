/**
 * Puts the operator's own join token, from standard input, in the place of the present one:
 *   docker compose run --rm --no-deps --no-TTY master set-token <my-token
 */
import { readFileSync } from 'node:fs';
import { PodError } from '../../src/numerics/error.ts';
import { tokenPath } from '../net/token.ts';
import { replaceToken } from './token-file.ts';

try {
  replaceToken(tokenPath(process.env), readFileSync(0, 'utf8'));
  process.stdout.write('the token was replaced\n');
} catch (error) {
  const code = error instanceof PodError ? error.code : 'io';
  process.stderr.write(`pod: ${code}: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = error instanceof PodError ? error.exitCode : 5;
}
