import { createHmac, timingSafeEqual } from 'node:crypto';
import { readRegularFile } from '../../src/files/read.ts';
import { PodError } from '../../src/numerics/error.ts';

/**
 * Secret that the master and the workers share. Each end proves that it holds the token. The token
 * is never sent and never printed.
 */
export class Token {
  readonly #secret: Buffer;

  constructor(secret: Buffer) {
    this.#secret = Buffer.from(secret);
  }

  /**
   * Returns the HMAC-SHA256 over `parts`. The input of the HMAC contains the length of each part
   * before the part itself, so two different lists of parts never have the same input.
   */
  prove(parts: readonly Uint8Array[]): Buffer {
    const hmac = createHmac('sha256', this.#secret);
    for (const part of parts) {
      const length = Buffer.alloc(4);
      length.writeUInt32LE(part.length);
      hmac.update(length).update(part);
    }
    return hmac.digest();
  }

  /**
   * True if `proof` is the HMAC-SHA256 over `parts`. The comparison takes equally long whichever
   * byte of `proof` is wrong, so its duration does not tell an attacker which bytes are right.
   */
  isProof(proof: Uint8Array, parts: readonly Uint8Array[]): boolean {
    const expected = this.prove(parts);
    return proof.length === expected.length && timingSafeEqual(proof, expected);
  }

  /** Returns a placeholder, so that the secret never appears in JSON or in a log. */
  toJSON(): string {
    return 'token';
  }
}

/** Shortest valid token, in characters. Shorter tokens could be guessed. */
export const tokenLengthMin = 16;
/** Largest token file, in bytes. */
export const tokenBytesMax = 4096;
const defaultPath = '/run/secrets/pod-token';

/**
 * Returns the path of the token file: the value of `POD_TOKEN_FILE`, or the path where container
 * engines mount the secret.
 */
export function tokenPath(env: Readonly<Record<string, string | undefined>>): string {
  return env['POD_TOKEN_FILE'] ?? defaultPath;
}

export interface ReadToken {
  readonly token: Token;
  /** Warning for the operator, for example that other users can read the token file. */
  readonly warning?: string;
}

/**
 * Reads the token from the file that {@link tokenPath} returns. White space around the token is
 * ignored.
 *
 * @throws PodError `io` if the file cannot be read; `bad-config` if the path is not a regular file,
 * the file is too large, or the token is too short.
 */
export function readToken(env: Readonly<Record<string, string | undefined>>): ReadToken {
  const path = tokenPath(env);
  const { text, mode } = readSecret(path);
  const secret = text.trim();
  if (secret.length < tokenLengthMin) {
    const found = `expected at least ${tokenLengthMin} characters, found ${secret.length}`;
    throw new PodError('bad-config', `token file ${path}: ${found}`);
  }
  const token = new Token(Buffer.from(secret));
  // Container engines mount a secret below /run/secrets with mode 0444, which all users can read.
  // But they mount it only into containers that need it. So no warning is needed there.
  if (path.startsWith('/run/secrets/') || (mode & 0o077) === 0) return { token };
  const octal = (mode & 0o777).toString(8);
  return {
    token,
    warning: `token file ${path} has mode ${octal}: other users can read the token; use mode 600 (chmod)`,
  };
}

function readSecret(path: string): { readonly text: string; readonly mode: number } {
  const read = readRegularFile(path, tokenBytesMax);
  if (read.kind === 'contents') return { text: read.bytes.toString('utf8'), mode: read.mode };
  const isWrong = read.kind === 'refused' && read.cause === undefined;
  throw new PodError(
    isWrong ? 'bad-config' : 'io',
    `token file ${path}: expected a regular file of at most ${tokenBytesMax} bytes, found ${read.found}`,
  );
}
