import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import { PodError } from '../../src/numerics/error.ts';
import { limits } from '../limits.ts';
import type { Token } from '../net/token.ts';

/**
 * The parts of a request that its proof covers, in addition to a time and a nonce. The proof, the
 * time and the nonce are in the header `authorization`.
 */
export interface SignedRequest {
  readonly method: string;
  /** Path with its query, exactly as sent: `/jobs/job-1/log?offset=0`. */
  readonly path: string;
  readonly body: Uint8Array;
}

/** The three parts of the header `authorization: Pod <unix-ms>.<nonce>.<proof>`, as text. */
export interface Stamp {
  /** Wall time of the signature, in ms since 1970, or {@link noTime}. */
  readonly time: string;
  /**
   * 16 bytes as hexadecimal digits: random, or the {@link Stale.challenge} that the master sent.
   */
  readonly nonce: string;
  /** HMAC-SHA256 of time, nonce and request, as hexadecimal digits. */
  readonly proof: string;
}

/**
 * Maximum number of nonces that the master remembers. Each nonce is remembered for twice
 * `limits.clockSkewMs`.
 */
export const noncesMax: number = 2 ** 16;
const nonceBytes = 16;

/**
 * Value of `time` in a stamp whose nonce is a challenge, which is a value that the master made
 * recently. Such a nonce proves by itself that the request is new, so the stamp needs no time.
 */
export const noTime = 0;

/**
 * Error for a stamp whose time does not prove that the request is new. For example, the clock of
 * the client or of the master is wrong. The client can then sign the request again, with
 * {@link noTime} as the time and `challenge` as the nonce. The master accepts that request once,
 * whatever the clocks show.
 */
export class Stale extends PodError {
  readonly challenge: string;

  constructor(message: string, challenge: string) {
    super('unauthorized', message);
    this.challenge = challenge;
  }
}

/**
 * Returns the value of the header `authorization` for a request. The value proves that the sender
 * has the token, but does not contain the token. The master accepts the value once, and only for
 * this request. `timeMs` is wall time in ms since 1970. `nonce` is random; if the master has sent a
 * challenge, it is the challenge.
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

/** Admits requests whose sender proves that it has the token. Refuses old and repeated requests. */
export class Doorkeeper {
  readonly #token: Token;
  readonly #now: () => number;
  readonly #elapsed: () => number;
  readonly #challenges: Challenges;
  /** The admitted stamps whose nonces the master still remembers, by nonce, in order of arrival. */
  readonly #seen: Map<string, Seen> = new Map();
  /**
   * Wall time, in ms since 1970. A stamp signed at or before this time may have been admitted
   * before: by this master, which may have forgotten the nonce, or by an earlier master. So such
   * stamps are refused as Stale.
   */
  #forgottenMs: number;

  /**
   * `now` returns wall time, in ms since 1970, which somebody may set forward or back at any
   * moment. `elapsed` returns the time, in ms, of a monotonic clock.
   */
  constructor(token: Token, now: () => number, elapsed: () => number = () => performance.now()) {
    this.#token = token;
    this.#now = now;
    this.#elapsed = elapsed;
    this.#challenges = new Challenges(elapsed);
    this.#forgottenMs = now() - 1;
  }

  /**
   * Parses the header `authorization`. Checks the time of the stamp or, if the stamp has no time,
   * the challenge. These checks do not need the body of the request, so they can run before the
   * body is read. {@link admit} later checks the proof, which covers the body too.
   *
   * @throws PodError `unauthorized` when the header is malformed.
   * @throws Stale when the time differs from the master's clock by more than `limits.clockSkewMs`,
   *   or when the stamp has no time and no valid challenge.
   */
  readStamp(header: string | undefined): Stamp {
    const found = /^Pod (\d{1,15})\.([0-9a-f]{32})\.([0-9a-f]{64})$/.exec(header ?? '');
    const [, time, nonce, proof] = found ?? [];
    if (time === undefined || nonce === undefined || proof === undefined) {
      throw unauthorized('expected the header authorization: Pod <time>.<nonce>.<proof>');
    }
    if (Number(time) === noTime) {
      if (this.#challenges.isGood(nonce)) return { time, nonce, proof };
      throw this.#stale('expected a challenge of this master, not older than 30 s, found another');
    }
    const aheadMs = Number(time) - this.#now();
    if (Math.abs(aheadMs) > limits.clockSkewMs) {
      const found = `a clock ${Math.abs(aheadMs)} ms ${aheadMs > 0 ? 'ahead' : 'behind'}`;
      throw this.#stale(
        `expected a clock within ${limits.clockSkewMs} ms of the master's, found ${found}`,
      );
    }
    return { time, nonce, proof };
  }

  /**
   * Checks the proof of a request and admits the request. A nonce is admitted only once.
   *
   * @throws PodError `unauthorized` when the proof is wrong or the nonce was used before;
   *   `too-many` when the master already remembers {@link noncesMax} nonces.
   * @throws Stale when the time does not prove that the request is new.
   */
  admit(request: SignedRequest, { time, nonce, proof }: Stamp): void {
    if (!this.#token.isProof(Buffer.from(proof, 'hex'), proven(request, time, nonce))) {
      throw unauthorized('wrong token');
    }
    this.#forget();
    const timeMs = Number(time);
    if (timeMs !== noTime && timeMs <= this.#forgottenMs) {
      throw this.#stale(
        'the request was signed too early for this master to know whether it was used before',
      );
    }
    if (this.#seen.has(nonce)) throw unauthorized('the request repeats an earlier request');
    if (this.#seen.size >= noncesMax) {
      throw new PodError(
        'too-many',
        `more than ${noncesMax} requests within ${2 * limits.clockSkewMs} ms; try again later`,
      );
    }
    this.#seen.set(nonce, { timeMs, arrivedMs: this.#elapsed() });
  }

  #stale(why: string): Stale {
    return new Stale(why, this.#challenges.make());
  }

  /**
   * Forgets the nonces of stamps that arrived more than twice `limits.clockSkewMs` ago. Sets
   * `#forgottenMs` to the latest time in any forgotten stamp. `admit` refuses every stamp up to
   * that time. So a forgotten stamp cannot be used again, even if the clock was set back.
   */
  #forget(): void {
    const now = this.#elapsed();
    for (const [nonce, { timeMs, arrivedMs }] of this.#seen) {
      if (now - arrivedMs <= 2 * limits.clockSkewMs) return;
      this.#seen.delete(nonce);
      this.#forgottenMs = Math.max(this.#forgottenMs, timeMs);
    }
  }
}

interface Seen {
  /** Wall time of the signature, in ms since 1970, or {@link noTime}. */
  readonly timeMs: number;
  /** Time, in ms on the monotonic clock, at which the master admitted the request. */
  readonly arrivedMs: number;
}

/**
 * Lengths, in bytes, of the three parts of a challenge: the time at which the challenge was made,
 * random bytes, and the proof that this master made the challenge.
 */
const challengeParts = { time: 6, random: 4, proof: 6 } as const;

/**
 * Makes challenges and checks returned challenges. Each challenge contains a proof that this master
 * made the challenge, so the master does not have to remember its challenges.
 */
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

  /**
   * True if the nonce is a challenge that this master made at most {@link limits.challengeMs} ago.
   */
  isGood(nonce: string): boolean {
    const bytes = Buffer.from(nonce, 'hex');
    const head = bytes.subarray(0, challengeParts.time + challengeParts.random);
    if (!timingSafeEqual(bytes.subarray(head.length), this.#prove(head))) return false;
    const ageMs = this.#elapsed() - head.readUIntBE(0, challengeParts.time);
    return ageMs >= 0 && ageMs <= limits.challengeMs;
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
