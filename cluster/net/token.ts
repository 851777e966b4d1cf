import { createHmac, timingSafeEqual } from 'node:crypto';
import { readRegularFile } from '../../src/files/read.ts';
import { PodError } from '../../src/numerics/error.ts';

/** The secret that master and workers share. It proves; it is never sent, and never printed. */
export class Token {
  readonly #secret: Buffer;

  constructor(secret: Buffer) {
    this.#secret = Buffer.from(secret);
  }

  /** HMAC-SHA256 over `parts`, each with its length before it, so that no two lists look alike. */
  prove(parts: readonly Uint8Array[]): Buffer {
    const hmac = createHmac('sha256', this.#secret);
    for (const part of parts) {
      const length = Buffer.alloc(4);
      length.writeUInt32LE(part.length);
      hmac.update(length).update(part);
    }
    return hmac.digest();
  }

  /** Whether `proof` is that of `parts`, in a time that does not depend on where they differ. */
  isProof(proof: Uint8Array, parts: readonly Uint8Array[]): boolean {
    const expected = this.prove(parts);
    return proof.length === expected.length && timingSafeEqual(proof, expected);
  }

  /** What anything that prints it gets. */
  toJSON(): string {
    return 'token';
  }
}

/** Fewer characters can be guessed. */
export const tokenLengthMin = 16;
/** A token file is no larger. */
export const tokenBytesMax = 4096;
const defaultPath = '/run/secrets/pod-token';

/** The file of the token: the one that `POD_TOKEN_FILE` names, or where engines mount secrets. */
export function tokenPath(env: Readonly<Record<string, string | undefined>>): string {
  return env['POD_TOKEN_FILE'] ?? defaultPath;
}

export interface ReadToken {
  readonly token: Token;
  /** What should be said to the operator, such as that others can read the file. */
  readonly warning?: string;
}

/**
 * Reads the token from the file named by `POD_TOKEN_FILE`, or where engines mount secrets. White
 * space around it does not count.
 *
 * @throws PodError `io` when the file cannot be read, `bad-config` when it holds no fit token.
 */
export function readToken(env: Readonly<Record<string, string | undefined>>): ReadToken {
  const path = tokenPath(env);
  const { text, mode } = readSecret(path);
  const secret = text.trim();
  if (secret.length < tokenLengthMin) {
    const found = `${secret.length} characters, at least ${tokenLengthMin}`;
    throw new PodError('bad-config', `token file ${path}: ${found}`);
  }
  const token = new Token(Buffer.from(secret));
  // Engines mount secrets read-only for the container's own users: 0444 is theirs to choose.
  if (path.startsWith('/run/secrets/') || (mode & 0o077) === 0) return { token };
  const octal = (mode & 0o777).toString(8);
  return { token, warning: `token file ${path} has mode ${octal}: others can read it, use 600` };
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
