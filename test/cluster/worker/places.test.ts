import type { ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { type AddressInfo, createServer as createTcpServer, type Server } from 'node:net';
import { networkInterfaces, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { otherEngines } from '../../engines.ts';
import { type Ran, startProgram } from '../process/pod.ts';

let folder = '';
const children: ChildProcess[] = [];
const servers: Server[] = [];
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'pod-places-'));
  writeFileSync(join(folder, 'token'), 'a token of enough characters', { mode: 0o600 });
});
afterEach(() => {
  for (const child of children.splice(0)) child.kill('SIGKILL');
  for (const server of servers.splice(0)) server.close();
  rmSync(folder, { recursive: true });
});

function start(program: 'master' | 'worker', env: NodeJS.ProcessEnv) {
  const started = startProgram(`cluster/${program}/main`, [], {
    ...{ POD_TOKEN_FILE: join(folder, 'token'), POD_DATA_DIR: folder },
    POD_STATUS_FILE: join(folder, `${program}.status`),
    ...env,
  });
  children.push(started.child);
  return started;
}

interface Line {
  readonly [field: string]: unknown;
}

function lines({ out }: Ran): Line[] {
  return out
    .trimEnd()
    .split('\n')
    .map((it) => JSON.parse(it));
}

/** Waits for a log line with the message `msg`. Returns all lines up to that line. */
async function untilSays(
  { child }: { readonly child: ChildProcess },
  msg: string,
): Promise<Line[]> {
  let text = '';
  for await (const piece of child.stdout ?? []) {
    text += piece;
    const all = text
      .split('\n')
      .slice(0, -1)
      .map((it) => JSON.parse(it) as Line);
    if (all.some((it) => it['msg'] === msg)) return all;
  }
  throw new Error(`it ended before it said ${msg}: ${text}`);
}

describe('a worker refuses a wrong variable in one line with exit code 2', () => {
  test.each<[string, NodeJS.ProcessEnv, RegExp]>([
    [
      'a URL',
      { POD_MASTER: 'http://master:7070' },
      /^POD_MASTER: expected HOST:PORT, .*: leave out/,
    ],
    ['no port', { POD_MASTER: 'master' }, /^POD_MASTER: .*: it has no port$/],
    [
      'no port of its own',
      { POD_TENSOR_PORT: '70700' },
      /^POD_TENSOR_PORT: expected a whole number/,
    ],
    [
      'no name of its own',
      { POD_HOST: 'a b' },
      /^POD_HOST: expected the name or address of a host/,
    ],
    ['no rank', { TPU_WORKER_ID: 'two' }, /^TPU_WORKER_ID: expected a whole number from 0/],
    [
      'a list without it',
      { TPU_WORKER_HOSTNAMES: 'x.a,x.b' },
      /^TPU_WORKER_HOSTNAMES: expected \S+ among/,
    ],
  ])('%s', async (_, env, message) => {
    const ran = await start('worker', env).ran;
    expect(ran.code).toBe(2);
    const last = lines(ran).at(-1);
    expect(last).toMatchObject({ level: 50, role: 'worker', code: 'bad-config' });
    expect(last?.['msg']).toMatch(message);
  });
});

describe('a master refuses a wrong variable in one line with exit code 2', () => {
  test.each<[string, NodeJS.ProcessEnv, RegExp]>([
    [
      'no grace',
      { POD_GRACE_MS: 'abc' },
      /^POD_GRACE_MS: expected a whole number from 0 to 3600000, found "abc"$/,
    ],
    ['no number of Cloud TPUs', { TPUS: '7' }, /^TPUS: 7 Cloud TPUs: expected one of/],
    ['another mode', { POD_MODE: 'jobs' }, /^POD_MODE: expected job or serve, found "jobs"$/],
    ['no port', { POD_CONTROL_PORT: '-1' }, /^POD_CONTROL_PORT: expected a whole number/],
    ['no host', { POD_CONTROL_HOST: '0.0.0' }, /^POD_CONTROL_HOST: expected the name or address/],
    [
      'no host of the API',
      { POD_API_HOST: 'http://a' },
      /^POD_API_HOST: expected the name or address/,
    ],
  ])('%s', async (_, env, message) => {
    // A master that fails ends at once if POD_FOLDER is set. Otherwise it would first wait some
    // seconds for workers, to tell them that the run is over.
    const own = {
      POD_CONTROL_HOST: '127.0.0.1',
      POD_CONTROL_PORT: '0',
      POD_API_PORT: '0',
      POD_FOLDER: folder,
    };
    const ran = await start('master', { ...own, ...env }).ran;
    expect(ran.code).toBe(2);
    const said = lines(ran).filter((it) => it['level'] === 50);
    expect(said).toEqual([
      expect.objectContaining({
        code: expect.stringMatching(/^bad-/),
        msg: expect.stringMatching(message),
      }),
    ]);
  });
});

test('a worker that finds no master logs the reason', async () => {
  const [named, refused] = await Promise.all([
    untilSays(start('worker', { POD_MASTER: 'nobody.invalid:7070' }), 'awaits-master'),
    untilSays(start('worker', { POD_MASTER: 'localhost:9' }), 'awaits-master'),
  ]);
  expect(named.at(-1)).toMatchObject({
    level: 30,
    master: 'nobody.invalid:7070',
    waitMsLimit: 180_000,
  });
  expect(named.at(-1)?.['cause']).toMatch(/getaddrinfo E\w+ nobody\.invalid/);
  expect(refused.at(-1)?.['cause']).toMatch(/ECONNREFUSED/);
  expect(refused.at(-1)?.['waitedMs']).toBeGreaterThanOrEqual(1000);
});

const run = '--model mlp --steps 3 --global-batch 16 --evaluate 16';
const hasIPv6 = networkInterfaces()['lo']?.some(({ family }) => family === 'IPv6') ?? false;

/**
 * Trains with two workers and a master that listens at `bracketed`, such as `[::1]`. Returns the
 * last line of the master's log.
 */
async function train(bracketed: string, env: NodeJS.ProcessEnv = {}) {
  const port = await freePort();
  const master = start('master', {
    ...{
      POD_CONTROL_HOST: bracketed,
      POD_CONTROL_PORT: String(port),
      POD_API_PORT: '0',
      TPUS: '2',
    },
    ...{ POD_ARGS: run, POD_API_HOST: bracketed, POD_MODE: 'job', ...env },
  });
  const workers = [0, 1].map((rank) =>
    start('worker', {
      ...{ POD_MASTER: ` ${bracketed}:${port} `, POD_TENSOR_PORT: '0', TPU_WORKER_ID: `${rank} ` },
      ...{ TMPDIR: '/nonexistent', XDG_RUNTIME_DIR: '/nonexistent', ...env },
    }),
  );
  const [ran, ...others] = await Promise.all([master, ...workers].map((it) => it.ran));
  expect([ran?.code, others.map(({ code }) => code)]).toEqual([0, [0, 0]]);
  return lines(ran ?? { code: null, out: '{}', err: '' }).at(-1);
}

test.skipIf(!hasIPv6)('a pod works with an IPv6 address in brackets', async () => {
  expect(await train('[::1]')).toMatchObject({ msg: 'summary', steps: 3 });
});

test.skipIf(otherEngines.every(({ major }) => major < 24))(
  'POD_TEST_ENGINES: with Node 24, sockets of workers do not use any proxy',
  async () => {
    let connections = 0;
    const proxy = createTcpServer((socket) => {
      connections++;
      socket.destroy();
    });
    servers.push(proxy);
    const at = `http://127.0.0.1:${await listening(proxy)}`;
    const engine = otherEngines.find(({ major }) => major >= 24)?.path ?? '';
    const env = {
      ...{
        HTTP_PROXY: at,
        http_proxy: at,
        HTTPS_PROXY: at,
        ALL_PROXY: at,
        NODE_USE_ENV_PROXY: '1',
      },
      NODE_OPTIONS: '--use-env-proxy',
    };
    const before = process.execPath;
    process.execPath = engine;
    try {
      expect(await train('127.0.0.1', env)).toMatchObject({
        msg: 'summary',
        steps: 3,
      });
    } finally {
      process.execPath = before;
    }
    expect(connections).toBe(0);
  },
);

async function freePort(): Promise<number> {
  const server = createServer();
  const port = await listening(server);
  await new Promise((done) => server.close(done));
  return port;
}

function listening(server: Server): Promise<number> {
  return new Promise((done) => {
    server.listen(0, '127.0.0.1', () => done((server.address() as AddressInfo).port));
  });
}
