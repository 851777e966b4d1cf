import { connect, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { WebSocket } from 'ws';
import { backoffMs } from '../../../cluster/net/backoff.ts';
import { decodeMessage, encodeMessage } from '../../../cluster/net/codec.ts';
import type { ControlChannel, ControlClientOptions } from '../../../cluster/net/control.ts';
import { connectControl, listenControl } from '../../../cluster/net/control.ts';
import { emptyHeader, encodeFrame, frameKinds, type Refusal } from '../../../cluster/net/frame.ts';
import { pendingMax } from '../../../cluster/net/gate.ts';
import type { Hello } from '../../../cluster/net/handshake.ts';
import type { Listener } from '../../../cluster/net/listen.ts';
import { Token } from '../../../cluster/net/token.ts';
import { token } from './processes.ts';
import { checkWord, type Word } from './words.ts';

interface Master {
  readonly listener: Listener;
  readonly joined: ControlChannel<Word>[];
  readonly heard: Word[];
  readonly closed: (Refusal | undefined)[];
  readonly turnedAway: Refusal[];
}

let master: Master;
const ends: (() => void)[] = [];

beforeEach(async () => {
  master = await makeMaster();
});
afterEach(async () => {
  for (const end of ends.splice(0)) end();
  await master.listener.close();
});

describe('the control channel', () => {
  test('carries messages both ways', async () => {
    const worker = join();
    await until(() => master.joined.length === 1 && worker.channel() !== undefined);
    const report: Word = {
      kind: 'done',
      outfeed: [Uint8Array.of(1, 2, 3), new Uint8Array(100_000).fill(7)],
      ms: [0.5, 1e9, 0],
    };
    worker.channel()?.send({ kind: 'joined', tpu: 3 });
    worker.channel()?.send(report);
    master.joined[0]?.send({ kind: 'start', step: 2 ** 40, flag: true });
    await until(() => master.heard.length === 2 && worker.heard.length === 1);
    expect(master.heard[0]).toEqual({ kind: 'joined', tpu: 3 });
    expect(asArrays(master.heard[1])).toEqual(asArrays(report));
    expect(worker.heard[0]).toMatchObject({ step: 2 ** 40, flag: true });
    expect(master.joined[0]?.hello).toMatchObject({ role: 'worker', from: 3, generation: 5 });
  });

  test('is closed after a message that does not match the schema', async () => {
    const worker = join();
    await until(() => master.joined.length === 1 && worker.channel() !== undefined);
    worker.channel()?.send({ kind: 'joined', tpu: 'three' } as unknown as Word);
    await until(() => master.closed.length === 1);
    expect(master.closed[0]).toMatchObject({
      code: 'message',
      text: expect.stringContaining('tpu'),
    });
    expect(master.heard).toEqual([]);
  });

  test('is opened again after it was lost', async () => {
    const worker = join();
    await until(() => master.joined.length === 1 && worker.channel() !== undefined);
    master.joined[0]?.close();
    await until(() => master.joined.length === 2 && worker.joins() === 2);
    expect(worker.retries).toHaveLength(1);
    worker.channel()?.send({ kind: 'joined', tpu: 3 });
    await until(() => master.heard.length === 1);
  });

  test('is not opened with a wrong token, and the refusal says so', async () => {
    const worker = join({ token: new Token(Buffer.from('a token that is another one')) });
    await until(() => worker.failures.length === 1);
    expect(worker.failures[0]).toMatch(/wrong token/);
    expect(master.turnedAway).toMatchObject([{ code: 'token' }]);
    expect(master.joined).toEqual([]);
  });

  test('is not opened for another protocol version, and the refusal names both', async () => {
    const ws = new WebSocket(url());
    const replies: Buffer[] = [];
    ws.on('message', (data) => replies.push(data as Buffer));
    ws.on('open', () => ws.send(encodeFrame(emptyHello, Buffer.alloc(44), 9)));
    const code = await new Promise((resolve) => ws.on('close', resolve));
    expect(code).toBe(4001);
    expect(Buffer.concat(replies).toString('latin1')).toContain('protocol version 9, expected 8');
    expect(master.turnedAway).toMatchObject([{ code: 'version' }]);
  });

  test('is not opened to a master that does not have the token', async () => {
    await master.listener.close();
    master = await makeMaster(new Token(Buffer.from('what an impostor would have')));
    const worker = join();
    await until(() => worker.failures.length === 1);
    expect(worker.channel()).toBeUndefined();
  });

  test('a proof of one connection is not valid for another', async () => {
    const proofs: Buffer[] = [];
    const challenges: Buffer[] = [];
    const hello = encodeFrame(emptyHello, helloPayload());
    for (let attempt = 0; attempt < 2; attempt++) {
      const ws = new WebSocket(url());
      ws.on('open', () => ws.send(hello));
      ws.on('message', (data) => {
        challenges.push(data as Buffer);
        const old = challenges[0]?.subarray(40) ?? Buffer.alloc(0);
        const greeting = helloPayload();
        const parts = [Buffer.from('tpu-pod 1 connects 0'), greeting, old];
        const proof = encodeFrame({ ...emptyHello, kind: frameKinds.proof }, token.prove(parts));
        proofs.push(proof);
        if (attempt === 1) ws.send(proof);
        else ws.close();
      });
      await new Promise((resolve) => ws.on('close', resolve));
    }
    expect(proofs[0]).toEqual(proofs[1]);
    expect(master.joined).toEqual([]);
    expect(master.turnedAway.at(-1)).toMatchObject({ code: 'token' });
  });

  test('disconnects silent clients after a while, limits their number, and admits an honest one', async () => {
    const silent: Socket[] = [];
    for (let i = 0; i < pendingMax + 6; i++) {
      const socket = connect(master.listener.port, '127.0.0.1');
      socket.on('error', () => undefined);
      await new Promise((resolve) => socket.once('connect', resolve));
      if (i % 2 === 0) socket.write('GET /control HT');
      silent.push(socket);
      ends.push(() => socket.destroy());
    }
    await until(() => master.turnedAway.filter((it) => it.code === 'too-many').length >= 6);
    join();
    await until(() => master.joined.length === 1);
    await until(() => silent.every((socket) => socket.closed), 10_000);
    expect(master.turnedAway.some((it) => it.code === 'timeout')).toBe(true);
    expect(master.closed).toEqual([]);
  });

  test('ends after a message that is too long', async () => {
    const worker = join();
    await until(() => master.joined.length === 1 && worker.channel() !== undefined);
    const outfeed = [new Uint8Array(2 ** 20)];
    expect(() => worker.channel()?.send({ kind: 'done', outfeed, ms: [] } as Word)).toThrow(
      /a message of/,
    );
    const ws = new WebSocket(url());
    ws.on('open', () => ws.send(Buffer.alloc(2 ** 20 + 1)));
    ws.on('error', () => undefined);
    expect(await new Promise((resolve) => ws.on('close', resolve))).not.toBe(1000);
    expect(master.joined).toHaveLength(1);
    expect(master.closed).toEqual([]);
  });
});

describe('messages', () => {
  test('are decoded to the sent value', () => {
    const value = fc
      .jsonValue({ maxDepth: 5 })
      .filter((it) => !JSON.stringify(it).includes('__proto__'));
    fc.assert(
      fc.property(value, (it) => {
        const decoded = decodeMessage(encodeMessage(it));
        const back = decoded.kind === 'value' ? decoded.value : decoded;
        expect(JSON.stringify(back)).toBe(JSON.stringify(it));
      }),
    );
  });

  test('any bytes are decoded or refused, without large allocations', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        expect(['value', 'refuse']).toContain(decodeMessage(Buffer.from(bytes)).kind);
      }),
      { numRuns: 2000 },
    );
    for (const hex of [
      'ddffffffff',
      'dfffffffff',
      'c6ffffffff00',
      'd47200',
      'c1',
      `${'91'.repeat(40)}c0`,
      'c0c0',
      '',
    ]) {
      expect(decodeMessage(Buffer.from(hex, 'hex')).kind, hex).toBe('refuse');
    }
  });
});

test('a backoff grows to its limit, and at most half of it is random', () => {
  const backoff = { firstMs: 100, mostMs: 2000 };
  expect([1, 2, 3, 9].map((attempt) => backoffMs(backoff, attempt, 0))).toEqual([
    50, 100, 200, 1000,
  ]);
  expect(backoffMs(backoff, 1, 0.5)).toBe(75);
  expect(backoffMs(backoff, 4000, 1)).toBe(2000);
});

test('a token is not revealed by JSON or String', () => {
  expect(`${JSON.stringify({ token })} ${String(token)}`).not.toMatch(/only tests/);
});

const emptyHello = { ...emptyHeader(), kind: frameKinds.hello };

function helloPayload(): Buffer {
  return Buffer.alloc(44);
}

async function makeMaster(itsToken: Token = token): Promise<Master> {
  const joined: ControlChannel<Word>[] = [];
  const heard: Word[] = [];
  const closed: (Refusal | undefined)[] = [];
  const turnedAway: Refusal[] = [];
  const listener = await listenControl<Word, Word>({
    ...{ token: itsToken, host: '127.0.0.1', port: 0, heartbeatMs: 5000, check: checkWord },
    joined(channel) {
      joined.push(channel);
      return { message: (it) => heard.push(it), closed: (it) => closed.push(it) };
    },
    turnedAway: (_, refusal) => turnedAway.push(refusal),
  });
  return { listener, joined, heard, closed, turnedAway };
}

function join(changes: Partial<ControlClientOptions<Word, Word>> = {}) {
  const heard: Word[] = [];
  const retries: number[] = [];
  const failures: string[] = [];
  let channel: ControlChannel<Word> | undefined;
  let joins = 0;
  const hello = (): Omit<Hello, 'channel'> => ({ role: 'worker', from: 3, to: 0, generation: 5 });
  const client = connectControl<Word, Word>({
    ...{ token, url: `ws://127.0.0.1:${master.listener.port}`, hello, check: checkWord },
    ...{ heartbeatMs: 5000, backoff: { firstMs: 10, mostMs: 100 }, random: () => 0.5 },
    joined(it) {
      channel = it;
      joins++;
      return { message: (message) => heard.push(message), closed: () => undefined };
    },
    retrying: (_, inMs) => retries.push(inMs),
    failed: (error) => failures.push(error.message),
    ...changes,
  });
  ends.push(() => client.close());
  return { heard, retries, failures, channel: () => channel, joins: () => joins };
}

function url(): string {
  return `ws://127.0.0.1:${master.listener.port}/control`;
}

async function until(holds: () => boolean, mostMs = 20_000): Promise<void> {
  for (let waited = 0; !holds() && waited < mostMs; waited += 5) await delay(5);
  expect(holds()).toBe(true);
}

/**
 * Returns a copy of `value` in which buffers and byte arrays are plain arrays. A sent byte array
 * arrives as a buffer. A test compares a sent value with the received value by such copies.
 */
function asArrays(value: unknown): unknown {
  return JSON.parse(
    JSON.stringify(value, (_, it) =>
      it?.type === 'Buffer' ? it.data : it instanceof Uint8Array ? [...it] : it,
    ),
  );
}
