import { randomBytes } from 'node:crypto';
import { PodError } from '../../src/numerics/error.ts';
import type { Token } from '../net/token.ts';

/** What a proof is over, besides its time and its nonce: all that the master acts upon. */
export interface SignedRequest {
  readonly method: string;
  /** With its query, as it is sent: `/jobs/job-1/log?offset=0`. */
  readonly path: string;
  readonly body: Uint8Array;
}

/** The three parts of `authorization: Pod <unix-ms>.<nonce>.<proof>`, as text. */
export interface Stamp {
  readonly time: string;
  /** 16 random bytes in hexadecimal digits. */
  readonly nonce: string;
  /** HMAC-SHA256 in hexadecimal digits. */
  readonly proof: string;
}

/** How far the clock of who asks may be from the master's, in ms. */
export const skewMsMax: number = 60_000;
/** How many nonces are kept. Each is for twice the skew at most. */
export const noncesMax: number = 2 ** 16;
const nonceBytes = 16;

/**
 * What `authorization` says of a request by one who holds the token, which itself is not sent. It
 * fits no other request, and is good once. `timeMs` is wall time since 1970.
 */
export function sign(token: Token, request: SignedRequest, timeMs: number): string {
  const time = String(timeMs);
  const nonce = randomBytes(nonceBytes).toString('hex');
  const proof = token.prove(proven(request, time, nonce));
  return `Pod ${time}.${nonce}.${proof.toString('hex')}`;
}

/** Admits requests whose sender proves that it holds the token: fresh ones, each once. */
export class Doorkeeper {
  readonly #token: Token;
  readonly #now: () => number;
  /** By nonce, in the order of arrival. */
  readonly #seen: Map<string, Seen> = new Map();
  /** What was signed at this time or before may have been forgotten, or seen by an earlier master. */
  #forgottenMs: number;

  /** `now` is wall time in ms since 1970. */
  constructor(token: Token, now: () => number) {
    this.#token = token;
    this.#now = now;
    this.#forgottenMs = now() - 1;
  }

  /**
   * What can be told before a body is read.
   *
   * @throws PodError `unauthorized` when nothing can make it good.
   */
  readStamp(header: string | undefined): Stamp {
    const found = /^Pod (\d{1,15})\.([0-9a-f]{32})\.([0-9a-f]{64})$/.exec(header ?? '');
    const [, time, nonce, proof] = found ?? [];
    if (time === undefined || nonce === undefined || proof === undefined) {
      throw unauthorized('expected authorization: Pod <time>.<nonce>.<proof>');
    }
    const aheadMs = Number(time) - this.#now();
    if (Math.abs(aheadMs) > skewMsMax) {
      const found = `a clock ${Math.abs(aheadMs)} ms ${aheadMs > 0 ? 'ahead' : 'behind'}`;
      throw unauthorized(`expected a clock within ${skewMsMax} ms of the master's, found ${found}`);
    }
    return { time, nonce, proof };
  }

  /**
   * Throws PodError `unauthorized` unless the stamp is that of this request and new, `too-many` when
   * no more nonces can be kept.
   */
  admit(request: SignedRequest, { time, nonce, proof }: Stamp): void {
    if (!this.#token.isProof(Buffer.from(proof, 'hex'), proven(request, time, nonce))) {
      throw unauthorized('wrong token');
    }
    this.#forget();
    if (Number(time) <= this.#forgottenMs) {
      throw unauthorized('signed before this master can tell whether it was used');
    }
    if (this.#seen.has(nonce)) throw unauthorized('used before');
    if (this.#seen.size >= noncesMax) {
      throw new PodError('too-many', `${noncesMax} requests within ${2 * skewMsMax} ms`);
    }
    this.#seen.set(nonce, { timeMs: Number(time), arrivedMs: this.#now() });
  }

  /** Those whose time is too far back by now, whatever it was when they arrived. */
  #forget(): void {
    const now = this.#now();
    for (const [nonce, { timeMs, arrivedMs }] of this.#seen) {
      if (now - arrivedMs <= 2 * skewMsMax) return;
      this.#seen.delete(nonce);
      // Should the clock be set back: what is forgotten stays used.
      this.#forgottenMs = Math.max(this.#forgottenMs, timeMs);
    }
  }
}

interface Seen {
  readonly timeMs: number;
  readonly arrivedMs: number;
}

function proven({ method, path, body }: SignedRequest, time: string, nonce: string): Uint8Array[] {
  return [...['tpu-pod api 1', method, path, time, nonce].map((it) => Buffer.from(it)), body];
}

function unauthorized(why: string): PodError {
  return new PodError('unauthorized', why);
}
