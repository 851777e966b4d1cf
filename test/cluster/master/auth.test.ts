import fc from 'fast-check';
import { expect, test } from 'vitest';
import { limits } from '../../../cluster/limits.ts';
import {
  Doorkeeper,
  noncesMax,
  noTime,
  type SignedRequest,
  Stale,
  sign,
} from '../../../cluster/master/auth.ts';
import { Token } from '../../../cluster/net/token.ts';
import { token } from '../net/processes.ts';

const bootMs = 1_700_000_000_000;
const request: SignedRequest = { method: 'POST', path: '/jobs?a=1', body: Buffer.from('{"x":1}') };

/**
 * Returns the function `admit` of a doorkeeper, which admits or refuses signed requests. The test
 * moves the two clocks of the doorkeeper: wall time (`ms`) and monotonic time (`elapsedMs`).
 */
function open(): {
  readonly clock: { ms: number; elapsedMs: number };
  admit(it: SignedRequest, header: string): void;
} {
  const clock = { ms: bootMs, elapsedMs: 1000 };
  const doorkeeper = new Doorkeeper(
    token,
    () => clock.ms,
    () => clock.elapsedMs,
  );
  return {
    clock,
    admit: (it, header) => doorkeeper.admit(it, doorkeeper.readStamp(header)),
  };
}

const refused = (text: RegExp) =>
  expect.objectContaining({ code: 'unauthorized', message: expect.stringMatching(text) });

test('a signed request is admitted once', () => {
  const { admit } = open();
  const anyRequest = fc.record({
    method: fc.constantFrom('GET', 'POST', 'DELETE'),
    path: fc.webPath().map((path) => `/${path}`),
    body: fc.uint8Array(),
  });
  fc.assert(
    fc.property(anyRequest, (it) => {
      const header = sign(token, it, bootMs);
      admit(it, header);
      expect(() => admit(it, header)).toThrow(refused(/^the request repeats an earlier request$/));
      admit(it, sign(token, it, bootMs));
    }),
  );
});

test('a change of any character of the header or of the request is refused', () => {
  const { admit } = open();
  const header = sign(token, request, bootMs);
  const changes = ['0', '1', 'f', 'F', '.', ' ', '-', 'g', 'P', 'p'];
  for (let i = 0; i < header.length; i++) {
    for (const char of changes.filter((it) => it !== header[i])) {
      const changed = header.slice(0, i) + char + header.slice(i + 1);
      expect(() => admit(request, changed)).toThrow(refused(/./));
    }
    expect(() => admit(request, header.slice(0, i))).toThrow(
      refused(/^expected the header authorization/),
    );
    expect(() => admit(request, header.slice(0, i) + header.slice(i + 1))).toThrow(refused(/./));
  }
  const flipped = (text: string, i: number, bit: number): Buffer => {
    const bytes = Buffer.from(text);
    bytes[i]! ^= 1 << bit;
    return bytes;
  };
  for (const part of ['method', 'path', 'body'] as const) {
    const text = String(request[part]);
    for (let i = 0; i < text.length; i++) {
      for (let bit = 0; bit < 8; bit++) {
        const bytes = flipped(text, i, bit);
        const changed = { ...request, [part]: part === 'body' ? bytes : bytes.toString('latin1') };
        expect(() => admit(changed, header)).toThrow(refused(/^wrong token$/));
      }
    }
  }
  // Method and path together have the same characters as before, but are divided at another place.
  // Such a request needs another signature.
  const moved = { method: 'POST/', path: 'jobs?a=1', body: request.body };
  expect(() => admit(moved, header)).toThrow(refused(/^wrong token$/));
  admit(request, header);
});

test('a wrong token and a missing header are refused', () => {
  const { admit } = open();
  const other = new Token(Buffer.from('a token that only tests knoW'));
  expect(() => admit(request, sign(other, request, bootMs))).toThrow(refused(/^wrong token$/));
  for (const header of ['', 'Pod', 'Bearer abc', `Pod ${'9'.repeat(5000)}`]) {
    expect(() => admit(request, header)).toThrow(refused(/^expected the header authorization/));
  }
  const doorkeeper = new Doorkeeper(token, () => bootMs);
  expect(() => doorkeeper.readStamp(undefined)).toThrow(
    refused(/^expected the header authorization/),
  );
});

test('a stamp that is off by more than a minute is refused with the difference', () => {
  const { admit, clock } = open();
  const signed = (aheadMs: number): string => sign(token, request, clock.ms + aheadMs);
  clock.ms += 10 * limits.clockSkewMs;
  clock.elapsedMs += 10 * limits.clockSkewMs;
  for (const aheadMs of [-limits.clockSkewMs, 0, limits.clockSkewMs])
    admit(request, signed(aheadMs));
  expect(() => admit(request, signed(limits.clockSkewMs + 1))).toThrow(refused(/60001 ms ahead$/));
  expect(() => admit(request, signed(-limits.clockSkewMs - 1))).toThrow(
    refused(/60001 ms behind$/),
  );
});

test('no proof is valid twice, however the clock moves and however many nonces are forgotten', () => {
  const move = fc.record({
    clockMs: fc.integer({ min: -3 * limits.clockSkewMs, max: 3 * limits.clockSkewMs }),
    elapsedMs: fc.integer({ min: 0, max: 3 * limits.clockSkewMs }),
    aheadMs: fc.integer({ min: -2 * limits.clockSkewMs, max: 2 * limits.clockSkewMs }),
  });
  fc.assert(
    fc.property(fc.array(move, { maxLength: 30 }), (moves) => {
      const { admit, clock } = open();
      const used: string[] = [];
      for (const { clockMs, elapsedMs, aheadMs } of moves) {
        clock.ms += clockMs;
        clock.elapsedMs += elapsedMs;
        for (const header of used) expect(() => admit(request, header)).toThrow(refused(/./));
        const header = sign(token, request, clock.ms + aheadMs);
        try {
          admit(request, header);
          used.push(header);
        } catch (error) {
          // A request is stale in two cases. Its time is too far from the master's time, or it is
          // so early that the master no longer remembers all nonces of that time. The master then
          // answers with a challenge. The client signs the request again, with the challenge
          // instead of a time, and the master admits it.
          if (!(error instanceof Stale)) throw error;
          const again = sign(token, request, noTime, error.challenge);
          admit(request, again);
          used.push(again);
        }
      }
    }),
  );
});

test('a stamp from before the start of the master is refused, as an earlier master may have seen it', () => {
  const { admit } = open();
  expect(() => admit(request, sign(token, request, bootMs - 1))).toThrow(
    refused(/^the request was signed too early/),
  );
  admit(request, sign(token, request, bootMs));
});

test('a limited number of valid nonces is kept, and none is forgotten before it expires', () => {
  const { admit, clock } = open();
  const first = sign(token, request, clock.ms);
  admit(request, first);
  for (let i = 1; i < noncesMax; i++) admit(request, sign(token, request, clock.ms));
  const full = expect.objectContaining({ code: 'too-many' });
  expect(() => admit(request, sign(token, request, clock.ms))).toThrow(full);
  expect(() => admit(request, first)).toThrow(refused(/^the request repeats an earlier request$/));
  const wait = (ms: number): void => {
    clock.ms += ms;
    clock.elapsedMs += ms;
  };
  wait(2 * limits.clockSkewMs);
  expect(() => admit(request, sign(token, request, clock.ms))).toThrow(full);
  wait(1);
  admit(request, sign(token, request, clock.ms));
});

test('a clock that is set by an hour costs each client one challenge and locks nobody out', () => {
  for (const hours of [1, -1]) {
    const { admit, clock } = open();
    const before = sign(token, request, clock.ms);
    admit(request, before);
    clock.ms += hours * 3_600_000;
    clock.elapsedMs += 1000;
    // A used signature stays invalid after the clock was set. It stays invalid even when the clock
    // shows the time of the signature again (checked below).
    expect(() => admit(request, before)).toThrow(refused(/./));
    const staleClient = challengeOf(() => admit(request, sign(token, request, bootMs)));
    admit(request, sign(token, request, noTime, staleClient));
    clock.elapsedMs += 3_600_000;
    clock.ms = bootMs;
    expect(() => admit(request, before)).toThrow(refused(/./));
    expect(() => admit(request, sign(token, request, noTime, staleClient))).toThrow(refused(/./));
  }
});

test('a challenge is valid once, for half a minute, with the right token, at one master', () => {
  const { admit, clock } = open();
  const challenge = (): string => challengeOf(() => admit(request, sign(token, request, 1)));
  const other = new Token(Buffer.from('a token that only tests knoW'));
  const first = challenge();
  expect(() => admit(request, sign(other, request, noTime, first))).toThrow(
    refused(/^wrong token$/),
  );
  admit(request, sign(token, request, noTime, first));
  expect(() => admit(request, sign(token, request, noTime, first))).toThrow(
    refused(/^the request repeats an earlier request$/),
  );
  const [late, later] = [challenge(), challenge()];
  clock.elapsedMs += limits.challengeMs;
  admit(request, sign(token, request, noTime, late));
  clock.elapsedMs += 1;
  expect(() => admit(request, sign(token, request, noTime, later))).toThrow(Stale);
  // A request with a time may have any nonce, even one that the master has sent as a challenge.
  admit(request, sign(token, request, clock.ms, challenge()));
  const elsewhere = challenge();
  expect(() => open().admit(request, sign(token, request, noTime, elsewhere))).toThrow(Stale);
  for (let i = 0; i < 32; i++) {
    const digit = elsewhere[i] === '0' ? '1' : '0';
    const forged = elsewhere.slice(0, i) + digit + elsewhere.slice(i + 1);
    expect(() => admit(request, sign(token, request, noTime, forged))).toThrow(Stale);
  }
});

function challengeOf(admit: () => void): string {
  try {
    admit();
  } catch (error) {
    if (error instanceof Stale) return error.challenge;
    throw error;
  }
  throw new Error('it was admitted');
}
