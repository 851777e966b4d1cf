import { once } from 'node:events';
import { connect } from 'node:net';
import { setImmediate as turn } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { limits } from '../../../cluster/limits.ts';
import { type ApiSource, requestsMax, serveApi } from '../../../cluster/master/api.ts';
import { Doorkeeper, noTime, sign } from '../../../cluster/master/auth.ts';
import { bodyBytesMax, pageMax, waitMsMax } from '../../../cluster/master/job-api.ts';
import { wordsBytesMax } from '../../../cluster/master/serve.ts';
import { Token } from '../../../cluster/net/token.ts';
import { token } from '../net/processes.ts';
import { type Pod, reportOf, startServer } from './fake-runner.ts';
import { MemoryJobFiles } from './memory-job-files.ts';

const source: ApiSource = {
  isReady: () => true,
  status: () => ({ phase: 'running' }),
  metrics: async () => ({ type: 'text/plain', text: 'pod_steps_total 1\n' }),
};

let pod: Pod;
let files: MemoryJobFiles;
let port = 0;
const ends: (() => void)[] = [];

beforeEach(async () => {
  files = new MemoryJobFiles();
  pod = await startServer('data', files, Date.now);
  const doorkeeper = new Doorkeeper(token, Date.now);
  const api = await serveApi(source, '127.0.0.1', 0, { jobs: pod.server, doorkeeper });
  port = api.port;
  ends.push(() => api.close());
});
afterEach(() => {
  for (const end of ends.splice(0)) end();
});

interface Answer {
  readonly status: number;
  // biome-ignore lint/suspicious/noExplicitAny: each test reads the fields that it expects.
  readonly value: any;
}

async function send(
  method: string,
  path: string,
  body?: string | Uint8Array,
  header?: string,
): Promise<Answer> {
  const bytes = Buffer.from(body ?? '');
  const authorization = header ?? sign(token, { method, path, body: bytes }, Date.now());
  const response = await fetch(`http://127.0.0.1:${port}${path}`, {
    ...{ method, headers: { authorization } },
    ...(bytes.length > 0 && { body: bytes }),
  });
  const text = await response.text();
  return { status: response.status, value: text.startsWith('{') ? JSON.parse(text) : text };
}

const post = (words: unknown): Promise<Answer> => send('POST', '/jobs', JSON.stringify({ words }));

test('the API shows a job from its submission to its summary', async () => {
  const { status, value } = await post(['--model', 'mlp']);
  expect(status).toBe(201);
  const { submittedMs } = value;
  const submitted = { id: 'job-1', words: ['--model', 'mlp'], submittedMs };
  expect(value).toEqual({ ...submitted, state: 'queued' });
  const running = { ...submitted, state: 'running', startedMs: expect.any(Number) };
  expect(await send('GET', '/jobs/job-1')).toEqual({
    status: 200,
    value: { ...running, isCancelling: false },
  });
  await post([]);
  expect((await send('DELETE', '/jobs/job-2')).value).toMatchObject({ state: 'cancelled' });
  expect((await send('DELETE', '/jobs/job-1')).value).toMatchObject({ isCancelling: true });
  await pod.runner.done();
  const done = { ...running, state: 'done', endedMs: expect.any(Number) };
  expect((await send('GET', '/jobs')).value).toEqual({
    jobs: [expect.objectContaining({ id: 'job-2', startedMs: null }), done],
    more: false,
    damaged: [],
  });
  expect((await send('GET', '/jobs/job-1')).value).toEqual({ ...done, report: reportOf('job-1') });
});

test('public paths answer without a proof, reveal nothing about jobs, and refuse POST', async () => {
  await post(['--secret']);
  for (const [path, text] of [
    ['/healthz', 'alive\n'],
    ['/readyz', 'ready\n'],
    ['/metrics', 'pod_steps_total 1\n'],
    ['/status', { phase: 'running' }],
  ] as const) {
    expect(await send('GET', path, undefined, '')).toEqual({ status: 200, value: text });
    expect((await send('POST', path, '{}', '')).status).toBe(405);
  }
  expect((await send('GET', '/jobsx', undefined, '')).status).toBe(404);
});

test('a master that takes no jobs has no /jobs', async () => {
  const api = await serveApi(source, '127.0.0.1', 0);
  ends.push(() => api.close());
  port = api.port;
  expect((await send('GET', '/jobs')).status).toBe(404);
  expect((await send('POST', '/jobs', '{}')).status).toBe(405);
});

describe('a request without a valid proof gets status 401 and changes nothing', () => {
  const routes = [
    ['POST', '/jobs'],
    ['GET', '/jobs'],
    ['GET', '/jobs?limit=1'],
    ['GET', '/jobs/job-1'],
    ['GET', '/jobs/job-9'],
    ['GET', '/jobs/job-1/log'],
    ['GET', '/jobs/job-1/nothing'],
    ['DELETE', '/jobs/job-1'],
    ['PUT', '/jobs/job-1'],
  ] as const;

  test.each(routes)('%s %s', async (method, path) => {
    await post([]);
    const body = method === 'POST' ? '{"words":[]}' : '';
    const request = { method, path, body: Buffer.from(body) };
    const now = Date.now();
    const good = sign(token, request, now);
    await send(method, path, body, good);
    const before = [files.operations.length, pod.server.list().length];
    const bad = [
      '',
      good,
      sign(new Token(Buffer.from('some other token')), request, now),
      sign(token, request, now - 61_000),
      sign(token, request, now + 61_000),
      sign(token, { ...request, method: 'PATCH' }, now),
      sign(token, { ...request, path: `${path}x` }, now),
      sign(token, { ...request, body: Buffer.from('x') }, now),
      sign(token, request, now).replace(/.$/, (it) => (it === '0' ? '1' : '0')),
    ];
    for (const header of bad) {
      const { status, value } = await send(method, path, body, header);
      expect([header, status]).toEqual([header, 401]);
      const { challenge, ...said } = value;
      expect(said).toEqual({ code: 'unauthorized', message: expect.any(String) });
      expect(challenge ?? '0'.repeat(32)).toMatch(/^[0-9a-f]{32}$/);
    }
    expect([files.operations.length, pod.server.list().length]).toEqual(before);
  });
});

test('a client with a wrong clock is admitted once, with the challenge of its refused request', async () => {
  const body = '{"words":["--steps","20"]}';
  const request = { method: 'POST', path: '/jobs', body: Buffer.from(body) };
  for (const timeMs of [Date.now() - 3_600_000, Date.now() + 3_600_000, 1]) {
    const { status, value } = await send('POST', '/jobs', body, sign(token, request, timeMs));
    expect([status, value.message]).toEqual([401, expect.stringMatching(/found a clock \d+ ms/)]);
    const header = sign(token, request, noTime, value.challenge);
    expect((await send('POST', '/jobs', body, header)).status).toBe(201);
    expect((await send('POST', '/jobs', body, header)).status).toBe(401);
  }
  expect(pod.server.list().length).toBe(3);
});

describe('a wrong request gets a code and a message of one line', () => {
  test.each([
    ['no JSON', '{"words":', 'bad-flag', /^body: expected JSON such as/],
    ['deep JSON', '['.repeat(60_000), 'bad-flag', /^body: /],
    ['deep words', `{"words":${'['.repeat(30_000)}${']'.repeat(30_000)}}`, 'bad-flag', /^body: /],
    ['many fields', `{${'"a":1,'.repeat(9000)}"words":[]}`, 'bad-flag', /^body: /],
    ['escapes', '{"\u001b[2J":1}', 'bad-flag', /^body: /],
    ['another prototype', '{"__proto__":{"words":[]}}', 'bad-flag', /^body: /],
    ['no UTF-8', Buffer.from([0x22, 0xff, 0x22]), 'bad-flag', /^body: expected JSON such as/],
    ['no words', '{}', 'bad-flag', /^body: /],
    ['no texts', '{"words":[1]}', 'bad-flag', /^body: /],
    ['more than words', '{"words":[],"run":1}', 'bad-flag', /^body: /],
    ['a flag that is refused', '{"words":["--bad"]}', 'bad-flag', /^--bad: expected nothing$/],
    ['an unknown flag', '{"words":["--unknown"]}', 'bad-flag', /unknown option '--unknown'$/],
    ['what does not fit', '{"words":["--large"]}', 'out-of-hbm', /^expected less$/],
  ])('%s', async (_, body, code, message) => {
    const { status, value } = await send('POST', '/jobs', body);
    expect(status).toBe(400);
    expect(value).toEqual({ code, message: expect.stringMatching(message) });
    expect(pod.server.list()).toEqual([]);
  });

  test.each([
    ['GET', '/jobs/job-1', 404, 'no-such-job'],
    ['GET', '/jobs/', 404, 'no-such-job'],
    ['GET', '/jobs/..%2f..%2fetc', 404, 'no-such-job'],
    ['GET', '/jobs/job-1/log', 404, 'no-such-job'],
    ['GET', '/jobs/job-1/log/x', 404, 'no-such-job'],
    ['DELETE', '/jobs/__proto__', 404, 'no-such-job'],
    ['PUT', '/jobs', 405, 'bad-method'],
    ['POST', '/jobs/job-1', 405, 'bad-method'],
    ['DELETE', '/jobs/job-1/log', 405, 'bad-method'],
    ['GET', '/jobs?limit=101', 400, 'bad-flag'],
    ['GET', '/jobs?before=1', 400, 'bad-flag'],
    ['GET', '/jobs/job-1/log?offset=-1', 400, 'bad-flag'],
    ['GET', '/jobs/job-1/log?offset=1e3', 400, 'bad-flag'],
    ['GET', `/jobs/job-1/log?wait=${waitMsMax + 1}`, 400, 'bad-flag'],
  ])('%s %s', async (method, path, status, code) => {
    expect(await send(method, path)).toMatchObject({ status, value: { code } });
  });

  test('the cancellation of a job that has ended', async () => {
    await post([]);
    await pod.runner.done();
    const { status, value } = await send('DELETE', '/jobs/job-1');
    expect(status).toBe(409);
    expect(value).toEqual({ code: 'job-ended', message: 'job-1 has ended already: done' });
  });

  test('a disk that is full', async () => {
    files.error = 'ENOSPC';
    const { status, value } = await post([]);
    expect([status, value.code]).toEqual([500, 'io']);
  });
});

describe('limits', () => {
  test('a too long body is refused, with content-length and with chunks', async () => {
    const words = (bytes: number): string => `{"words":[]}${' '.repeat(bytes - 12)}`;
    expect((await send('POST', '/jobs', words(bodyBytesMax))).status).toBe(201);
    const { status, value } = await send('POST', '/jobs', words(bodyBytesMax + 1));
    expect([status, value.code]).toEqual([413, 'too-large']);
    const body = words(10 * bodyBytesMax);
    const request = { method: 'POST', path: '/jobs', body: Buffer.from(body) };
    const answer = await raw(
      `POST /jobs HTTP/1.1\r\nhost: a\r\nauthorization: ${sign(token, request, Date.now())}\r\n` +
        `transfer-encoding: chunked\r\n\r\n${body.length.toString(16)}\r\n${body}\r\n0\r\n\r\n`,
    );
    expect(answer).toMatch(/^HTTP\/1.1 413 /);
    expect(pod.server.list().length).toBe(1);
  });

  test('a connection with an endless body is closed', async () => {
    const request = { method: 'POST', path: '/jobs', body: Buffer.alloc(0) };
    const socket = connect(port, '127.0.0.1');
    socket.on('error', () => {});
    const header = sign(token, request, Date.now());
    socket.write(`POST /jobs HTTP/1.1\r\nhost: a\r\nauthorization: ${header}\r\n`);
    socket.write('transfer-encoding: chunked\r\n\r\n');
    const chunk = `10000\r\n${'x'.repeat(65536)}\r\n`;
    const more = (): void => {
      while (!socket.destroyed && socket.write(chunk));
    };
    socket.on('drain', more);
    more();
    socket.resume();
    await new Promise((resolve) => socket.on('close', resolve));
    expect(socket.bytesWritten).toBeLessThan(2 ** 26);
    expect(pod.server.list()).toEqual([]);
  });

  test('too long words and a full queue are refused', async () => {
    const { status, value } = await post(['x'.repeat(wordsBytesMax)]);
    expect([status, value.code]).toEqual([413, 'too-large']);
    for (let i = 0; i < limits.queueMax; i++) pod.server.submit([]);
    const full = await post([]);
    expect([full.status, full.value.code]).toEqual([429, 'too-many']);
  });

  test('a list of jobs has pages of limited size, newest jobs first', async () => {
    for (let i = 0; i < pageMax + 5; i++) pod.server.submit([]);
    const first = (await send('GET', '/jobs')).value;
    expect(first.more).toBe(true);
    expect(first.jobs.length).toBe(pageMax);
    expect(first.jobs[0].id).toBe('job-105');
    const second = (await send('GET', `/jobs?before=${first.jobs.at(-1).id}`)).value;
    expect(second.more).toBe(false);
    expect(second.jobs.map((job: { id: string }) => job.id)).toEqual(
      [5, 4, 3, 2, 1].map((number) => `job-${number}`),
    );
    const third = (await send('GET', '/jobs?before=job-2&limit=1')).value;
    expect(third).toMatchObject({ jobs: [{ id: 'job-1' }], more: false });
    expect((await send('GET', '/jobs?limit=0')).value).toEqual({
      ...{ jobs: [], more: true, damaged: [] },
    });
  });
});

describe('the log of a job', () => {
  const log = async (query: string): Promise<Answer['value']> =>
    (await send('GET', `/jobs/job-1/log${query}`)).value;

  test('is read from the offset at which the last answer ended', async () => {
    await post([]);
    expect(await log('')).toEqual({ text: '', next: 0, state: 'running', hasEnded: false });
    pod.runner.hooks.log({ msg: 'one' });
    const { text, next } = await log('?offset=0');
    expect(JSON.parse(text)).toEqual({ msg: 'one', time: expect.any(Number) });
    pod.runner.hooks.log({ msg: 'two' });
    await pod.runner.done();
    const rest = await log(`?offset=${next}&wait=10000`);
    expect(JSON.parse(rest.text)).toMatchObject({ msg: 'two' });
    expect(rest).toMatchObject({ state: 'done', hasEnded: true });
    expect(await log(`?offset=${rest.next}&wait=10000`)).toMatchObject({
      text: '',
      hasEnded: true,
    });
  });

  test('is waited for until it grows, the job ends, or the wait is over', async () => {
    await post([]);
    expect(await log('?wait=1')).toMatchObject({ text: '', hasEnded: false });
    const line = log('?wait=10000');
    const { server } = pod;
    await heard(() => pod.runner.hooks.log({ msg: 'one' }));
    expect((await line).text).toMatch(/"one"/);
    const end = log(`?offset=${(await line).next}&wait=10000`);
    await heard(() => void pod.runner.done());
    expect(await end).toMatchObject({ text: '', hasEnded: true });
    expect(server.list()).toHaveLength(1);
  });

  test('no longer has a watcher when its client has hung up', async () => {
    await post([]);
    const waits = 80;
    for (let i = 0; i < waits; i++) {
      const path = '/jobs/job-1/log?wait=10000';
      const request = { method: 'GET', path, body: Buffer.alloc(0) };
      const watched = watchOnce();
      const socket = connect(port, '127.0.0.1');
      const header = sign(token, request, Date.now());
      socket.write(`GET ${path} HTTP/1.1\r\nhost: a\r\nauthorization: ${header}\r\n\r\n`);
      await watched.begun;
      socket.destroy();
      await watched.ended;
    }
  });

  /**
   * Waits until the next watcher has begun to wait, and then does `work`. A watcher is a request
   * that waits for a change of a job.
   */
  async function heard(work: () => void): Promise<void> {
    const { begun } = watchOnce();
    await begun;
    work();
  }

  /**
   * Returns two promises about the next watcher (a request that waits for a change of a job).
   * `begun` resolves when the request begins to wait, `ended` when it stops waiting.
   */
  function watchOnce(): { readonly begun: Promise<void>; readonly ended: Promise<void> } {
    const { server } = pod;
    const { watch } = server;
    let leave = (): void => {};
    const ended = new Promise<void>((resolve) => {
      leave = resolve;
    });
    const begun = new Promise<void>((resolve) => {
      server.watch = (id, changed) => {
        server.watch = watch;
        const unwatch = server.watch(id, changed);
        resolve();
        return () => {
          unwatch();
          leave();
        };
      };
    });
    return { begun, ended };
  }
});

/** Sends raw bytes and returns all that the server answers until it closes the connection. */
async function raw(text: string): Promise<string> {
  const socket = connect(port, '127.0.0.1');
  let answer = '';
  socket.on('data', (piece) => {
    answer += piece;
  });
  socket.write(text);
  await once(socket, 'close');
  await turn();
  return answer;
}

test('a client that pipelines too many requests on one connection is disconnected', async () => {
  const socket = connect(port, '127.0.0.1');
  let heard = '';
  socket.setEncoding('latin1').on('data', (text: string) => {
    heard += text;
  });
  // The server may reset the connection while the test still writes to it.
  socket.on('error', () => undefined);
  socket.write('GET /metrics HTTP/1.1\r\nHost: master\r\n\r\n'.repeat(10 * requestsMax));
  await once(socket, 'close');
  expect(heard.match(/^HTTP/gm)?.length ?? 0).toBeLessThanOrEqual(requestsMax);
  expect((await send('GET', '/jobs')).status).toBe(200);
});
