import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Token } from '../../../cluster/net/token.ts';
import { Lobby } from '../../../cluster/process/lobby.ts';
import { Session, type SessionOptions } from '../../../cluster/worker/session.ts';
import { PodError } from '../../../src/numerics/error.ts';

const token = new Token(Buffer.from('a token that only tests know'));
let lobby: Lobby;
let logged: [string, Readonly<Record<string, unknown>>][];
const sessions: Session[] = [];

beforeEach(async () => {
  logged = [];
  lobby = await open();
});
afterEach(async () => {
  await Promise.all(sessions.splice(0).map((session) => session.end()));
  await lobby.close();
});

function open(): Promise<Lobby> {
  const log = (msg: string, fields: Readonly<Record<string, unknown>>): void => {
    logged.push([msg, fields]);
  };
  return Lobby.open({ token, host: '127.0.0.1', port: 0, log });
}

/**
 * Connects a worker to the lobby, where workers wait for a Cloud TPU. The promise `ended` resolves
 * when the worker's session ends. Its value is the error with which the session ended, or undefined
 * if there was no error.
 */
function join(change: Partial<SessionOptions> = {}): {
  readonly ended: Promise<Error | undefined>;
} {
  let over: (error: PodError | undefined) => void = () => undefined;
  const ended = new Promise<Error | undefined>((resolve) => {
    over = resolve;
  });
  const session = new Session({
    ...{ host: '127.0.0.1', port: lobby.port, token, rank: 0, isHosted: false },
    ...{ address: '127.0.0.1', tensorPort: 0, over },
    ...{ asked: () => undefined, ready: () => undefined, log: () => undefined },
    isRunOver: () => false,
    ...change,
  });
  sessions.push(session);
  return { ended };
}

async function untilWaiting(count: number): Promise<void> {
  while (lobby.waiting.length < count) await sleep(5);
}

const pending = Symbol('still there');
const now = <T>(of: Promise<T>): Promise<T | typeof pending> =>
  Promise.race([of, sleep(30).then((): typeof pending => pending)]);

describe('a run that is over', () => {
  test('ends all connected workers without an error', async () => {
    const workers = [join(), join({ rank: 1 })];
    await untilWaiting(2);
    await lobby.dismiss({ expected: 0, withinMs: 0, lingerMs: 0 });
    for (const { ended } of workers) expect(await ended).toBeUndefined();
  });

  test('waits until all expected workers have come and been dismissed', async () => {
    const dismissed = lobby.dismiss({ expected: 2, withinMs: 10_000, lingerMs: 0 });
    expect(await now(dismissed)).toBe(pending);
    const first = join();
    await first.ended;
    expect(await now(dismissed)).toBe(pending);
    const second = join({ rank: 1 });
    await second.ended;
    await dismissed;
  });

  test('waits no longer than `withinMs` for workers that never come', async () => {
    const startMs = performance.now();
    await lobby.dismiss({ expected: 3, withinMs: 200, lingerMs: 0 });
    expect(performance.now() - startMs).toBeGreaterThanOrEqual(200);
    expect(performance.now() - startMs).toBeLessThan(5000);
  });

  test('ends its workers only after lingerMs, so that the master ends first', async () => {
    const { ended } = join();
    await untilWaiting(1);
    const startMs = performance.now();
    await lobby.dismiss({ expected: 0, withinMs: 0, lingerMs: 300 });
    expect(await now(ended)).toBe(pending);
    expect(await ended).toBeUndefined();
    expect(performance.now() - startMs).toBeGreaterThanOrEqual(300);
  });

  test('does not end workers when the lobby only closes: they look for the next master', async () => {
    const { ended } = join();
    await untilWaiting(1);
    const { port } = lobby;
    await lobby.close();
    expect(await now(ended)).toBe(pending);
    lobby = await Lobby.open({ token, host: '127.0.0.1', port, log: () => undefined });
    await untilWaiting(1);
  });

  test('ends a worker without a master that reads the note about the end of the run', async () => {
    await lobby.close();
    const { ended } = join({ isRunOver: () => true });
    expect(await ended).toBeUndefined();
  });
});

test("the error with which a worker without a Cloud TPU ends is in the master's log", async () => {
  let hear: () => void = () => undefined;
  const heard = new Promise<void>((resolve) => {
    hear = resolve;
  });
  const { ended } = join({ rank: 3, asked: hear });
  await untilWaiting(1);
  // A worker that has received a message of the master can send to the master too. So this message
  // makes sure that the worker can send its error.
  lobby.waiting[0]?.send({ kind: 'host', tpu: 3 });
  await heard;
  await sessions[0]?.end(new PodError('io', 'no room in /tmp'));
  expect(await ended).toMatchObject({ message: 'no room in /tmp' });
  while (!logged.some(([msg]) => msg === 'worker-unable')) await sleep(5);
  expect(logged).toContainEqual([
    'worker-unable',
    { rank: 3, code: 'io', cause: 'no room in /tmp' },
  ]);
});
