import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
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
  /** 16 bytes in hexadecimal digits: random ones, or a {@link Stale.challenge}. */
  readonly nonce: string;
  /** HMAC-SHA256 in hexadecimal digits. */
  readonly proof: string;
}

/** How far the clock of who asks may be from the master's, in ms. */
export const skewMsMax: number = 60_000;
/** How many nonces are kept. Each is kept for twice the skew. */
export const noncesMax: number = 2 ** 16;
/** How long a challenge is good, in ms. */
export const challengeMsMax: number = 30_000;
const nonceBytes = 16;

/** The time of a stamp that answers a challenge instead. */
export const noTime = 0;

/**
 * A stamp whose time does not tell whether the request is new: one of the two clocks is wrong, or was
 * set. Whoever signs the request again, with {@link noTime} and the challenge as its nonce, is
 * admitted, once, whatever the clocks say.
 */
export class Stale extends PodError {
  readonly challenge: string;

  constructor(message: string, challenge: string) {
    super('unauthorized', message);
    this.challenge = challenge;
  }
}

/**
 * The value of the header `authorization`. It proves that the sender holds the token, without sending it.
 * The signature is valid for this request only, and once. `timeMs` is wall time since 1970; `nonce` is random
 * unless the master gave a challenge.
 */
export function sign(
  token: Token,
  request: SignedRequest,
  timeMs: number,
  nonce: string = randomBytes(nonceBytes).toString('hex'),
): string {
  const time = String(timeMs);
  const proof = token.prove(proven(request, time, nonce));
  return `Pod ${time}.${nonce}.${proof.toString('hex')}`;
}

/** Admits requests whose sender proves that it holds the token: fresh ones, each once. */
export class Doorkeeper {
  readonly #token: Token;
  readonly #now: () => number;
  readonly #elapsed: () => number;
  readonly #challenges: Challenges;
  /** By nonce, in the order of arrival. */
  readonly #seen: Map<string, Seen> = new Map();
  /** What was signed at this time or before may have been forgotten, or seen by an earlier master. */
  #forgottenMs: number;

  /**
   * `now` is wall time in ms since 1970, which may be set in either direction at any moment;
   * `elapsed` is a clock in ms that nobody sets.
   */
  constructor(token: Token, now: () => number, elapsed: () => number = () => performance.now()) {
    this.#token = token;
    this.#now = now;
    this.#elapsed = elapsed;
    this.#challenges = new Challenges(elapsed);
    this.#forgottenMs = now() - 1;
  }

  /**
   * What can be told before a body is read.
   *
   * @throws PodError `unauthorized` when nothing can make it good, Stale when a challenge can.
   */
  readStamp(header: string | undefined): Stamp {
    const found = /^Pod (\d{1,15})\.([0-9a-f]{32})\.([0-9a-f]{64})$/.exec(header ?? '');
    const [, time, nonce, proof] = found ?? [];
    if (time === undefined || nonce === undefined || proof === undefined) {
      throw unauthorized('expected authorization: Pod <time>.<nonce>.<proof>');
    }
    if (Number(time) === noTime) {
      if (this.#challenges.isGood(nonce)) return { time, nonce, proof };
      throw this.#stale('expected a challenge of this master, not older than 30 s, found another');
    }
    const aheadMs = Number(time) - this.#now();
    if (Math.abs(aheadMs) > skewMsMax) {
      const found = `a clock ${Math.abs(aheadMs)} ms ${aheadMs > 0 ? 'ahead' : 'behind'}`;
      throw this.#stale(`expected a clock within ${skewMsMax} ms of the master's, found ${found}`);
    }
    return { time, nonce, proof };
  }

  /**
   * Throws PodError `unauthorized` unless the stamp is that of this request and new, Stale when its
   * time does not tell, `too-many` when no more nonces can be kept.
   */
  admit(request: SignedRequest, { time, nonce, proof }: Stamp): void {
    if (!this.#token.isProof(Buffer.from(proof, 'hex'), proven(request, time, nonce))) {
      throw unauthorized('wrong token');
    }
    this.#forget();
    const timeMs = Number(time);
    if (timeMs !== noTime && timeMs <= this.#forgottenMs) {
      throw this.#stale('signed before this master can tell whether it was used');
    }
    if (this.#seen.has(nonce)) throw unauthorized('used before');
    if (this.#seen.size >= noncesMax) {
      throw new PodError('too-many', `${noncesMax} requests within ${2 * skewMsMax} ms`);
    }
    this.#seen.set(nonce, { timeMs, arrivedMs: this.#elapsed() });
  }

  #stale(why: string): Stale {
    return new Stale(why, this.#challenges.make());
  }

  /**
   * Forgets proofs that arrived long ago. A forgotten proof is still refused, since no proof as old as it is
   * accepted, even when the clock was set back.
   */
  #forget(): void {
    const now = this.#elapsed();
    for (const [nonce, { timeMs, arrivedMs }] of this.#seen) {
      if (now - arrivedMs <= 2 * skewMsMax) return;
      this.#seen.delete(nonce);
      this.#forgottenMs = Math.max(this.#forgottenMs, timeMs);
    }
  }
}

interface Seen {
  /** Wall time at which it was signed. */
  readonly timeMs: number;
  /** By the clock that nobody sets. */
  readonly arrivedMs: number;
}

/** A challenge has 6 bytes of time, 4 that are random, and 6 that prove that it was made here. */
const challengeParts = { time: 6, random: 4, proof: 6 } as const;

/** Nonces that a master makes itself, and knows again without keeping them. */
class Challenges {
  readonly #elapsed: () => number;
  readonly #key: Buffer = randomBytes(32);

  constructor(elapsed: () => number) {
    this.#elapsed = elapsed;
  }

  make(): string {
    const head = Buffer.alloc(challengeParts.time + challengeParts.random);
    head.writeUIntBE(Math.floor(this.#elapsed()), 0, challengeParts.time);
    randomBytes(challengeParts.random).copy(head, challengeParts.time);
    return Buffer.concat([head, this.#prove(head)]).toString('hex');
  }

  /** Whether a nonce was made here lately. */
  isGood(nonce: string): boolean {
    const bytes = Buffer.from(nonce, 'hex');
    const head = bytes.subarray(0, challengeParts.time + challengeParts.random);
    if (!timingSafeEqual(bytes.subarray(head.length), this.#prove(head))) return false;
    const ageMs = this.#elapsed() - head.readUIntBE(0, challengeParts.time);
    return ageMs >= 0 && ageMs <= challengeMsMax;
  }

  #prove(head: Buffer): Buffer {
    const proof = createHmac('sha256', this.#key).update(head).digest();
    return proof.subarray(0, challengeParts.proof);
  }
}

function proven({ method, path, body }: SignedRequest, time: string, nonce: string): Uint8Array[] {
  return [...['tpu-pod api 1', method, path, time, nonce].map((it) => Buffer.from(it)), body];
}

function unauthorized(why: string): PodError {
  return new PodError('unauthorized', why);
}
