import { randomUUID } from 'node:crypto';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { networkInterfaces, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, test } from 'vitest';
import type { Hosting } from '../../../cluster/net/route.ts';
import { connectTensors, type TensorOffer } from '../../../cluster/net/tensor-socket.ts';
import { Token } from '../../../cluster/net/token.ts';
import { Carrier, type CarrierOptions } from '../../../cluster/process/carrier.ts';
import { layOutProcess } from '../../../cluster/process/layout.ts';
import { allocate } from '../../../cluster/runtime/layout.ts';
import { podTorus } from '../../../src/fabric/torus.ts';

const token = new Token(Buffer.from('a token that only tests know'));
const torus = podTorus({ columns: 2, rows: 1 });
const generation = 5;

/**
 * Four parameters of a program. A transfer sends each parameter in pieces of 131,072 bytes. The
 * first parameter needs several pieces. The second is smaller than a piece. The third is empty. The
 * fourth is exactly one piece.
 */
const state = [400_000, 17, 0, 131_072].map((length, index) =>
  Uint8Array.from({ length }, (_, i) => Math.imul(i + index, 2654435761) >>> 24),
);

interface Ends {
  readonly serving: Carrier;
  readonly taking: Carrier;
  readonly offer: TensorOffer;
}

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0)) await close();
});

function makeCarrier(self: number, parts: Partial<CarrierOptions> = {}): Carrier {
  const hosting: Hosting = { torus, processOf: [0, 1], self };
  const layout = layOutProcess(hosting, []);
  const carrier = new Carrier({
    ...{ memory: allocate(layout.bytes), layout, hosting, token, host: '127.0.0.1', port: 0 },
    unixPath: join(tmpdir(), `pod-${randomUUID()}.sock`),
    stateOf: () => undefined,
    unshared: () => undefined,
    trouble: () => undefined,
    ...parts,
  });
  closing.push(() => carrier.close());
  return carrier;
}

const hasIPv6 = networkInterfaces()['lo']?.some(({ family }) => family === 'IPv6') ?? false;
/** A unix socket, or a WebSocket over IPv4 or IPv6. */
type Way = 'unix' | 'ws' | 'ipv6';
const ways: readonly Way[] = hasIPv6 ? ['unix', 'ws', 'ipv6'] : ['unix', 'ws'];

/**
 * Makes two Cloud TPUs. Cloud TPU 0 (`serving`) has run 7 steps of program 1, and offers the
 * program's parameters over the given kind of connection. Cloud TPU 1 (`taking`) can take them.
 */
async function makeEnds(over: Way): Promise<Ends> {
  const host = over === 'ipv6' ? '::1' : '127.0.0.1';
  const unixPath = join(tmpdir(), `pod-${randomUUID()}.sock`);
  const stateOf = (program: number, steps: number) =>
    program === 1 && steps === 7 ? state : undefined;
  const serving = makeCarrier(0, { stateOf, unixPath, host });
  const taking = makeCarrier(1, { host });
  const offers = [
    { host, port: await serving.listen(), ...(over === 'unix' ? { unixPath } : {}) },
    { host, port: await taking.listen() },
  ];
  serving.begin(generation, offers);
  taking.begin(generation, offers);
  return { serving, taking, offer: offers[0]! };
}

const empty = (): Uint8Array[] => state.map(({ length }) => new Uint8Array(length));
function expectState(into: readonly Uint8Array[]): void {
  expect(into.map((it, i) => Buffer.compare(it, state[i] ?? it))).toEqual(state.map(() => 0));
}
const what = { peer: 0, generation, program: 1, steps: 7 };

describe.each(ways)('parameters taken over %s', (over) => {
  test('equal those of the peer', async () => {
    const { taking, offer } = await makeEnds(over);
    const into = empty();
    await taking.take({ ...what, offer, into });
    expectState(into);
    // The second transfer must work too. By now, the two Cloud TPUs also have a connection for
    // gradients.
    const again = empty();
    await taking.take({ ...what, offer, into: again });
    expectState(again);
  });

  test.each([
    ['another program', { program: 0 }, /has no parameters of the training after 7 steps/],
    ['other steps', { steps: 8 }, /has no parameters of the evaluation after 8 steps/],
  ])('of %s are refused with a message that names the peer', async (_, change, text) => {
    const { taking, offer } = await makeEnds(over);
    const taken = taking.take({ ...what, ...change, offer, into: empty() });
    await expect(taken).rejects.toMatchObject({
      code: 'worker-exited',
      message: expect.stringMatching(/from Cloud TPU 0: /),
    });
    await expect(taken).rejects.toThrow(text);
  });

  test.each([
    ['fewer', state.slice(0, 1).map((it) => new Uint8Array(it.length - 4))],
    ['longer', state.map((it) => new Uint8Array(it.length + 4))],
  ])('must have the expected lengths: %s', async (_, into) => {
    const { taking, offer } = await makeEnds(over);
    await expect(taking.take({ ...what, offer, into })).rejects.toThrow(/bytes of parameter 0/);
  });

  test('are waited for until the peer has joined the membership', async () => {
    const { serving, taking, offer } = await makeEnds(over);
    serving.begin(generation - 1, [offer, offer]);
    const into = empty();
    const taken = taking.take({ ...what, offer, into });
    await sleep(120);
    serving.begin(generation, [offer, offer]);
    await taken;
    expectState(into);
  });

  test('that arrive damaged or incomplete are refused', async () => {
    const { taking, offer } = await makeEnds(over);
    const flipped = await relay(offer, (bytes, before) => {
      const at = 100_000 - before;
      if (at >= 0 && at < bytes.length) bytes[at]! ^= 0x10;
      return bytes;
    });
    const damaged = taking.take({ ...what, offer: flipped, into: empty() });
    await expect(damaged).rejects.toMatchObject({
      code: 'bad-frame',
      message: expect.stringMatching(/from Cloud TPU 0: a corrupt payload/),
    });
    const cut = await relay(offer, (bytes, before) => (before < 150_000 ? bytes : undefined));
    const ended = taking.take({ ...what, offer: cut, into: empty() });
    await expect(ended).rejects.toMatchObject({
      code: 'worker-exited',
      message: expect.stringMatching(
        /from Cloud TPU 0: disconnected before all parameters had arrived/,
      ),
    });
  });

  test('are no longer waited for when the membership ends', async () => {
    const { taking, offer } = await makeEnds(over);
    const stalled = await relay(offer, (bytes, before) =>
      before < 150_000 ? bytes : new Uint8Array(0),
    );
    const taken = taking.take({ ...what, offer: stalled, into: empty() });
    const outcome = expect(taken).rejects.toThrow(/Cloud TPU 0: cancelled/);
    await sleep(50);
    taking.begin(generation + 1, [offer, offer]);
    await outcome;
  });
});

/**
 * A client may give up a connection before the server notices. The server must admit the client's
 * next connection all the same.
 */
test('a neighbour that connects again is admitted, and no Cloud TPU is accused', async () => {
  const troubles: number[] = [];
  const unixPath = join(tmpdir(), `pod-${randomUUID()}.sock`);
  const serving = makeCarrier(0, { unixPath, trouble: (peer) => troubles.push(peer) });
  const offer = { host: '127.0.0.1', port: await serving.listen(), unixPath };
  serving.begin(generation, [offer, { host: '127.0.0.1', port: 1 }]);
  const dial = (): Promise<'open' | string> =>
    new Promise((resolve) => {
      const client = connectTensors({
        ...{ token, offer, hello: { channel: 'tensor', from: 1, to: 0, generation } },
        open() {
          resolve('open');
          // The client refuses the connection, as it would if the server had answered too late.
          return { code: 'timeout', text: 'too late' };
        },
        closed: (refusal) => resolve(refusal?.text ?? 'closed'),
      });
      closing.push(() => client.close());
    });
  for (let i = 0; i < 3; i++) expect(await dial()).toBe('open');
  const taking = makeCarrier(1, { trouble: (peer) => troubles.push(peer) });
  await taking.listen();
  taking.begin(generation, [offer, offer]);
  await sleep(200);
  expect(troubles).toEqual([]);
});

/**
 * Starts a relay between a client and the worker that made `offer`. Returns an offer that leads to
 * the relay. For each piece of data from the worker, the relay calls `change` with the piece and
 * the number of bytes before it. If `change` returns bytes, the relay passes them on. If `change`
 * returns undefined, the relay ends the connection.
 */
async function relay(
  offer: TensorOffer,
  change: (bytes: Buffer, before: number) => Uint8Array | undefined,
): Promise<TensorOffer> {
  const sockets = new Set<Socket>();
  const server: Server = createServer((near) => {
    const path = offer.unixPath;
    const far = path === undefined ? connect(offer.port, offer.host) : connect(path);
    let before = 0;
    far.on('data', (bytes) => {
      const changed = change(bytes, before);
      before += bytes.length;
      if (changed === undefined) near.destroy();
      else if (changed.length > 0) near.write(changed);
    });
    near.on('data', (bytes) => far.write(bytes));
    for (const [one, other] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(one);
      one.on('error', () => other.destroy());
      one.on('close', () => other.destroy());
    }
  });
  closing.push(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  const unixPath = join(tmpdir(), `pod-${randomUUID()}.sock`);
  await new Promise<void>((resolve) => {
    if (offer.unixPath === undefined) server.listen(0, '127.0.0.1', resolve);
    else server.listen(unixPath, resolve);
  });
  const address = server.address();
  const port = typeof address === 'object' ? (address?.port ?? 0) : 0;
  return { host: '127.0.0.1', port, ...(offer.unixPath === undefined ? {} : { unixPath }) };
}
