import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { lockFolder } from '../../cluster/host/lock.ts';
import { jobSchema } from '../../cluster/master/jobs.ts';
import { readToken } from '../../cluster/net/token.ts';
import { JobClient } from '../../src/cli/job-client.ts';
import { shell } from './run-pod.ts';

let folder: string;
let dir: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'pod-readers-'));
  dir = join(folder, '.pod');
  mkdirSync(dir);
  writePod({});
  writeFileSync(join(dir, 'processes'), 'master 4194000 5f2c-1\ntpu-0 4194001 5f2c-2\n');
  writeFileSync(join(dir, 'master.log'), '{"msg":"one"}\n');
  writeFileSync(join(dir, 'token'), 'a token of enough characters', { mode: 0o600 });
});
afterEach(() => rmSync(folder, { recursive: true }));

function writePod(changes: Readonly<Record<string, unknown>>): void {
  const known = { apiPort: 1, controlPort: 2, tpus: 1, args: '', serve: false };
  writeFileSync(join(dir, 'pod.json'), JSON.stringify({ ...known, ...changes }));
}

const pod = (words: string) => shell(`timeout 30 $pod ${words}`, { cwd: folder });

/**
 * Ways to damage a file. The file is deleted first. Then one of these functions puts something else
 * at its path.
 */
const damages: Readonly<Record<string, (path: string) => void>> = {
  'an empty file': (path) => writeFileSync(path, ''),
  'a folder': (path) => mkdirSync(path),
  'a pipe': (path) => void execFileSync('mkfifo', [path]),
};

function damage(name: string, kind: string): void {
  rmSync(join(dir, name));
  damages[kind]?.(join(dir, name));
}

describe('a damaged list of processes', () => {
  test.each(Object.keys(damages))('%s is not taken for a pod that has ended', async (kind) => {
    damage('processes', kind);
    for (const command of ['down', 'status']) {
      const { code, stdout, stderr } = await pod(command);
      expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
      expect(stderr).toMatch(
        /^pod: bad-data: \.pod\/processes: expected a list [^\n]*remove this file\n$/,
      );
      expect(stderr).toContain(`found ${kind}`);
    }
  });

  test('does not keep pod down from ending the process that holds the folder and its children', async () => {
    damage('processes', 'an empty file');
    const env = { ...process.env, POD_STATUS_FILE: join(dir, 'tpu-0.status') };
    const worker = spawn('sleep', ['60'], { env, stdio: 'ignore' });
    const holder = await holdFolder();
    const { code, stderr } = await pod('down');
    expect(code).toBe(2);
    expect(stderr).toContain(
      `found an empty file; ended the processes ${holder.pid}, ${worker.pid};`,
    );
    expect([holder.signalCode, worker.signalCode]).toEqual(['SIGTERM', 'SIGTERM']);
  });

  test('is reported together with the status of the running pod', async () => {
    damage('processes', 'an empty file');
    writePod({ apiPort: Number(new URL(origin).port) });
    const lock = lockFolder(dir, 'a test');
    const { code, stdout, stderr } = await pod('status');
    lock.release();
    expect(code).toBe(2);
    expect(stdout).toContain(', generation 1');
    expect(stderr).toContain('found an empty file; the pod is running, as a test (pid');
  });
});

/** Starts a process that holds the lock of the folder, as a supervisor does. */
async function holdFolder(): Promise<ChildProcess> {
  const holder = spawn('flock', ['-F', join(dir, '.lock'), 'sh', '-c', 'echo held; exec sleep 60']);
  await new Promise((held) => holder.stdout.once('data', held));
  const owner = { pid: holder.pid, start: '', host: execFileSync('hostname').toString().trim() };
  const since = '2026-01-02T03:04:05.678Z';
  writeFileSync(join(dir, '.lock'), JSON.stringify({ ...owner, use: 'pod up', since }));
  return holder;
}

describe('a log that is no regular file', () => {
  test.each(['a folder', 'a pipe'])('%s is refused and named', async (kind) => {
    damage('master.log', kind);
    for (const command of ['logs', 'status']) {
      const { code, stderr } = await pod(command);
      expect({ code, stderr }).toEqual({
        code: 5,
        stderr: `pod: io: .pod/master.log: expected a log, found ${kind}\n`,
      });
    }
  });
});

test.each([9_999_999, -5, 0])('port %d in pod.json is refused', async (apiPort) => {
  writePod({ apiPort });
  for (const command of ['status', 'metrics', 'jobs']) {
    const { code, stderr } = await pod(command);
    expect(code).toBe(2);
    expect(stderr).toMatch(/^pod: bad-data: \.pod\/pod\.json: the file is damaged: apiPort: Too /);
  }
});

/**
 * Text that would clear the screen of a terminal, set its title, break the line, reverse the
 * writing direction, and begin an escape sequence.
 */
const escapes = 'r\u001b[2J\u001b]0;title\u0007\rA\u202eB\u009b31m\u007fning';
const obeyed = /[^\P{Cc}\n]|[\u202a-\u202e]/u;
const job = { id: escapes, words: [escapes], submittedMs: 1, state: 'queued' };

let server: Server;
let origin: string;
/**
 * Answers of the server to requests for a log, in the order of the requests. After the last answer,
 * all further requests get this answer again.
 */
let pieces: unknown[] = [];
let asked = 0;
beforeAll(async () => {
  server = createServer((request, response) => {
    const path = request.url ?? '';
    const member = { tpu: 0, state: escapes, pid: 1, host: escapes, hostname: escapes };
    const last = {
      ...{ step: 1, steps: 2, loss: 1, digest: escapes, imagesPerSecond: 1 },
      slowest: { tpu: 0, ownMs: 2, othersMs: 1 },
      timing: { slowestPhase: escapes, slowestSince: 1, waitMs: 0, causedMs: 0 },
      longest: { [escapes]: { tpu: 0, ms: 1 } },
    };
    const linkBytes = { [escapes]: 2048 };
    if (path === '/metrics') response.end(`${escapes} 1\nnext 2\n`);
    else if (path === '/status') {
      response.end(
        JSON.stringify({
          phase: escapes,
          generation: 1,
          tpus: 1,
          members: [member],
          last,
          linkBytes,
        }),
      );
    } else if (path.includes('/log?')) {
      response.end(JSON.stringify(pieces[Math.min(asked++, pieces.length - 1)]));
    } else if (request.method === 'POST') response.end(JSON.stringify(job));
    else response.end(JSON.stringify({ jobs: [job], more: false }));
  });
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterAll(() => server.close());
beforeEach(() => {
  asked = 0;
  pieces = [
    { text: `${escapes}\n`, next: 9, hasEnded: true },
    { text: '', next: 9, hasEnded: true },
  ];
});

test.each([
  'status',
  'status --json',
  'metrics',
  'submit --token-file .pod/token',
  'submit --json --token-file .pod/token',
  'jobs --token-file .pod/token',
  'jobs --json --token-file .pod/token',
  'logs job-1 --token-file .pod/token',
])('control characters of another server never reach the terminal: pod %s', async (command) => {
  const { code, stdout } = await pod(`${command} --api ${origin}`);
  expect(code).toBe(0);
  expect(stdout).toContain('u001b[2J');
  expect(stdout).not.toMatch(obeyed);
});

test.each(['status', 'down'])('pod %s escapes the text of ended.json', async (command) => {
  writeFileSync(join(dir, 'ended.json'), JSON.stringify({ exitCode: 3, reason: escapes }));
  const { stdout } = await pod(command);
  expect(stdout).toContain('u001b[2J');
  expect(stdout).not.toMatch(obeyed);
});

describe('the log of a job', () => {
  const read = async (): Promise<string[]> => {
    const { token } = readToken({ POD_TOKEN_FILE: join(dir, 'token') });
    const texts: string[] = [];
    for await (const text of new JobClient(origin, token).log('job-1', true)) texts.push(text);
    return texts;
  };

  test('is refused when its offset does not advance', async () => {
    pieces = [{ text: 'again\n', next: 0, hasEnded: false }];
    await expect(read()).rejects.toThrow(
      /does not understand: next: expected more than 0, found 0$/,
    );
  });

  test('is not polled in a busy loop while it does not grow', async () => {
    pieces = [{ text: '', next: 0, hasEnded: false }];
    const ended = shell(
      `timeout 3 $pod logs job-1 --follow --api ${origin} --token-file .pod/token`,
      {
        cwd: folder,
      },
    );
    await ended;
    expect(asked).toBeLessThan(8);
  });
});

test('pod submit --wait ends when its reader has gone, and says that the job goes on', async () => {
  pieces = [{ text: '', next: 0, hasEnded: false }];
  const line = `$pod submit --wait --api ${origin} --token-file .pod/token`;
  const { stderr } = await shell(`(timeout 60 ${line}; echo "code $?" >&2) > >(true)`, {
    cwd: folder,
  });
  expect(stderr).toMatch(/^pod: io: output was lost: standard output: [^\n]* continues; pod logs /);
  expect(stderr).toMatch(/\ncode 5\n$/);
});

test('pod logs --follow ends with its reader even if the log does not grow', async () => {
  writeFileSync(join(dir, 'processes'), `master ${process.pid} \n`);
  const line = '(timeout 60 $pod logs --follow; echo "code $?" >&2) > >(head -1 >/dev/null)';
  const { stderr } = await shell(line, { cwd: folder });
  expect(stderr).toMatch(/^pod: io: output was lost: standard output: [^\n]*\ncode 5\n$/);
});

test('SIGHUP ends a command with exit code 143, that of SIGTERM', async () => {
  writeFileSync(join(dir, 'processes'), `master ${process.pid} \n`);
  const line = 'exec > >(read; kill -HUP $$; cat >/dev/null); exec $pod logs --follow';
  expect((await shell(line, { cwd: folder })).code).toBe(143);
});

test.each([
  ['logs --api http://127.0.0.1:1', '--api: expected a job too, found none'],
  ['logs --token-file x', '--token-file: expected a job too, found none'],
  ["logs --tpu ''", '--tpu: expected 0 to 0, found ""'],
  ["logs --tpu ' '", '--tpu: expected 0 to 0, found " "'],
  ['logs --tpu 0x0', '--tpu: expected 0 to 0, found "0x0"'],
  ['logs --tpu 0e5', '--tpu: expected 0 to 0, found "0e5"'],
  ['train --print hlo --json', '--json: not possible with --print'],
  ['train --print hlo --log l', '--log: not possible with --print'],
  ['train --print hlo --report r', '--report: not possible with --print'],
  ['train --print hlo --checkpoint c', '--checkpoint: not possible with --print'],
  ['checkpoint', 'expected a command of pod checkpoint, found none'],
  ['help nope', 'expected a command of pod, found "nope"'],
])('pod %s is refused in one line', async (command, message) => {
  const { code, stdout, stderr } = await pod(command);
  expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
  expect(stderr).toMatch(/^pod: bad-flag: [^\n]*\n$/);
  expect(stderr).toContain(message);
});

test.each(['jobs', 'logs job-1', 'submit', 'cancel job-1'])(
  'pod %s of a pod that has ended says how it ended',
  async (command) => {
    writeFileSync(join(dir, 'ended.json'), JSON.stringify({ exitCode: 5, reason: 'a full disk' }));
    const { code, stderr } = await pod(command);
    expect(code).toBe(3);
    expect(stderr).toBe('pod: worker-exited: .pod: the pod ended with exit code 5: a full disk\n');
  },
);

test('a submission time beyond the range of dates is refused', () => {
  expect(() => jobSchema.parse({ ...job, submittedMs: 1e300 })).toThrow(/submittedMs/);
});
