import { spawn } from 'node:child_process';
import { mkdtempSync, writeFileSync } from 'node:fs';
import http, { createServer, type RequestListener } from 'node:http';
import { type AddressInfo, createServer as createTcpServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { getJson, isLoopback, request } from '../../src/cli/http.ts';
import { compiled } from '../cluster/compiled.ts';
import { type Engine, otherEngines, thisEngine } from '../engines.ts';
import { type Ended, endOf } from './run-pod.ts';

const servers: Server[] = [];

afterEach(() => {
  for (const server of servers.splice(0)) {
    server.close();
    if (server instanceof http.Server) server.closeAllConnections();
  }
});

test('a request carries method, path, headers and body; its answer has status and text', async () => {
  const origin = await serve(async (asked, answer) => {
    const body = (await asked.toArray()).join('');
    answer.writeHead(201).end(`${asked.method} ${asked.url} ${asked.headers['x-y']} ${body} ö`);
  });
  const answer = await request(origin, {
    ...{ method: 'POST', path: '/jobs?a=1', headers: { 'x-y': 'z' } },
    ...{ body: Buffer.from('body'), answerMsMax: 5000 },
  });
  expect(answer).toEqual({ status: 201, text: 'POST /jobs?a=1 z body ö' });
});

test('a redirect is returned as an answer and not followed', async () => {
  let asked = 0;
  const origin = await serve((_, answer) => {
    asked++;
    answer.writeHead(302, { location: '/elsewhere' }).end();
  });
  expect((await request(origin, { path: '/', answerMsMax: 5000 })).status).toBe(302);
  expect(asked).toBe(1);
});

test('a server that never answers and one whose answer never ends are given up at the deadline', async () => {
  const silent = await listen(createTcpServer());
  await expectNone(silent, /^no answer from \S+: timed out after 0.2 s$/, { answerMsMax: 200 });
  const endless = await serve((_, answer) => {
    const timer = setInterval(() => answer.write('more '), 20);
    answer.on('close', () => clearInterval(timer));
  });
  await expectNone(endless, /timed out after 0.3 s$/, { answerMsMax: 300 });
});

test('an answer that is too long is not read to its end', async () => {
  const origin = await serve((_, answer) => answer.end('x'.repeat(5000)));
  const most = { answerBytesMax: 1000 };
  await expectNone(origin, /the answer has more than 1000 bytes$/, most);
});

test('no server, no HTTP and too long headers each give an error of one line', async () => {
  await expectNone(
    'http://127.0.0.1:9',
    /^no answer from http:\/\/127\.0\.0\.1:9: connect ECONNREF/,
  );
  const rude = await listen(createTcpServer((socket) => socket.end('\u001b[31mnot HTTP\r\n\r\n')));
  await expectNone(rude, /Parse Error/);
  const long = await serve((_, answer) => {
    answer.writeHead(200, { 'x-long': 'x'.repeat(100_000) }).end();
  });
  await expectNone(long, /Header/);
  const cut = await listen(createTcpServer((socket) => socket.destroy()));
  await expectNone(cut, /socket hang up|ECONNRESET/);
});

test('getJson returns JSON and refuses another status and other text', async () => {
  const answers: Record<string, [number, string]> = {
    '/good': [200, '{"a":[1]}'],
    '/gone': [404, '{}'],
    '/text': [200, '<html>'],
  };
  const origin = await serve((asked, answer) => {
    const [status, text] = answers[asked.url ?? ''] ?? [500, ''];
    answer.writeHead(status).end(text);
  });
  expect(await getJson(origin, { path: '/good', answerMsMax: 5000 })).toEqual({ a: [1] });
  await expect(getJson(origin, { path: '/gone', answerMsMax: 5000 })).rejects.toThrow(
    /\/gone: expected status 200, found 404$/,
  );
  await expect(getJson(origin, { path: '/text', answerMsMax: 5000 })).rejects.toThrow(
    /expected JSON, found other text$/,
  );
});

test('loopback addresses are distinguished from others', () => {
  const ours = ['localhost', 'LOCALHOST.', 'a.localhost', '127.0.0.1', '127.8.9.10', '[::1]'];
  for (const host of [...ours, new URL('http://[::ffff:127.0.0.1]').hostname]) {
    expect([host, isLoopback(host)]).toEqual([host, true]);
  }
  const others = ['localhost.example', '128.0.0.1', '10.127.0.0.1', '127.example', '[::2]', ''];
  for (const host of [
    ...others,
    '127.0.0.1.example',
    new URL('http://[::ffff:1.2.3.4]').hostname,
  ]) {
    expect([host, isLoopback(host)]).toEqual([host, false]);
  }
});

test('requests to loopback do not use the global agent of Node', async () => {
  const origin = await serve((_, answer) => answer.end('direct'));
  const before = http.globalAgent;
  http.globalAgent = new http.Agent();
  http.globalAgent.createConnection = () => {
    throw new Error('the global agent was asked');
  };
  try {
    expect((await request(origin, { path: '/', answerMsMax: 5000 })).text).toBe('direct');
  } finally {
    http.globalAgent = before;
  }
});

/**
 * Environments that tell Node to use a proxy. Requests to loopback must not go through the proxy.
 */
const proxied: Readonly<Record<string, (proxy: string) => NodeJS.ProcessEnv>> = {
  'HTTP_PROXY and NODE_USE_ENV_PROXY': (it) => ({ HTTP_PROXY: it, NODE_USE_ENV_PROXY: '1' }),
  'http_proxy and --use-env-proxy': (it) => ({ http_proxy: it, NODE_OPTIONS: '--use-env-proxy' }),
  ALL_PROXY: (it) => ({ ALL_PROXY: it, all_proxy: it, NODE_USE_ENV_PROXY: '1' }),
  'NO_PROXY that names others': (it) => ({
    ...{ HTTP_PROXY: it, HTTPS_PROXY: it, NO_PROXY: 'example.com', NODE_USE_ENV_PROXY: '1' },
  }),
};

for (const engine of [thisEngine, ...otherEngines.filter(({ major }) => major >= 20)]) {
  test.each(Object.entries(proxied))(
    `Node ${engine.version} sends requests to loopback directly in spite of %s`,
    async (_, env) => {
      let connections = 0;
      const proxy = await listen(
        createTcpServer((socket) => {
          connections++;
          socket.destroy();
        }),
      );
      const origin = await serve((_, answer) => {
        answer
          .writeHead(200, { 'content-type': 'application/json' })
          .end('{"jobs":[],"more":false}');
      });
      const variables = env(proxy);
      const isKnown = engine.major >= 24 || variables['NODE_OPTIONS'] === undefined;
      const ended = await podJobs(engine, origin, isKnown ? variables : {});
      expect(ended).toMatchObject({ code: 0, stderr: '' });
      expect(connections).toBe(0);
    },
  );
}

function podJobs(engine: Engine, origin: string, env: NodeJS.ProcessEnv): Promise<Ended> {
  const token = join(mkdtempSync(join(tmpdir(), 'pod-http-')), 'token');
  writeFileSync(token, 'a token of enough characters', { mode: 0o600 });
  const words = ['jobs', '--json', '--api', origin, '--token-file', token];
  return endOf(
    spawn(engine.path, [compiled('src/cli/main.cjs'), ...words], {
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    }),
  );
}

async function expectNone(
  origin: string,
  message: RegExp,
  limits: { readonly answerMsMax?: number; readonly answerBytesMax?: number } = {},
): Promise<void> {
  const asked = request(origin, { path: '/', answerMsMax: 5000, ...limits });
  const error: unknown = await asked.catch((it: unknown) => it);
  expect(error).toMatchObject({ code: 'worker-silent', message: expect.stringMatching(message) });
}

function serve(listener: RequestListener): Promise<string> {
  return listen(createServer(listener));
}

async function listen(server: Server): Promise<string> {
  servers.push(server);
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}
