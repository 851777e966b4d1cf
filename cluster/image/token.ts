/**
 * Makes the join token where there is none, so that a pod of containers needs no step before it.
 * The file is whole or not there, and only its owner can read it. Nothing of it is printed.
 *
 *   node dist/cluster/image/token.js          32 random bytes, unless a token is there
 *   node dist/cluster/image/token.js --stdin  the token on standard input, instead of what is there
 */
import { randomBytes } from 'node:crypto';
import {
  existsSync,
  linkSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { dirname } from 'node:path';
import { tokenLengthMin } from '../net/token.ts';

const path = process.env['POD_TOKEN_FILE'] ?? '/run/secrets/pod-token';

if (process.argv.includes('--stdin')) {
  const token = readFileSync(0, 'utf8').trim();
  if (token.length < tokenLengthMin) {
    fail(`${token.length} characters on standard input, at least ${tokenLengthMin} are needed`);
  }
  place(token, renameSync);
  say('token-replaced');
} else if (existsSync(path)) {
  say('token-kept');
} else {
  place(randomBytes(32).toString('base64url'), linkNew);
  say('token-made');
}

function place(token: string, put: (from: string, to: string) => void): void {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  const draft = `${path}.${randomBytes(6).toString('hex')}`;
  writeFileSync(draft, `${token}\n`, { mode: 0o400, flag: 'wx', flush: true });
  put(draft, path);
  rmSync(draft, { force: true });
}

/** Whoever is first wins; a second one finds the first one's token in place. */
function linkNew(from: string, to: string): void {
  try {
    linkSync(from, to);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  }
}

function say(msg: string): void {
  process.stdout.write(`${JSON.stringify({ level: 30, msg, path })}\n`);
}

function fail(reason: string): never {
  process.stderr.write(`token: bad-config: ${reason}\n`);
  process.exit(2);
}
