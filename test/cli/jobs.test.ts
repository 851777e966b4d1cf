import { copyFile, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Command } from 'commander';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { serveApi } from '../../cluster/master/api.ts';
import { Doorkeeper } from '../../cluster/master/auth.ts';
import { readToken } from '../../cluster/net/token.ts';
import { addJobs } from '../../src/cli/jobs.ts';
import { addLogs } from '../../src/cli/logs.ts';
import { PodError } from '../../src/numerics/error.ts';
import { type Pod, reportOf, startServer } from '../cluster/master/fake-runner.ts';

let folder = '';
let output = '';
let errors = '';
let port = 0;
let master: Pod;
let api: { close(): void };

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'pod-'));
  await writeFile(join(folder, 'token'), 'a token that only tests know\n', { mode: 0o600 });
  await startMaster(0);
  await writeFile(join(folder, 'pod.json'), JSON.stringify({ apiPort: port }));
  for (const name of ['POD_API', 'POD_TOKEN_FILE']) vi.stubEnv(name, undefined);
  output = '';
  errors = '';
  vi.spyOn(process.stdout, 'write').mockImplementation((text) => {
    output += text;
    return true;
  });
  vi.spyOn(process.stderr, 'write').mockImplementation((text) => {
    errors += text;
    return true;
  });
});
afterEach(async () => {
  vi.restoreAllMocks();
  vi.unstubAllEnvs();
  process.exitCode = undefined;
  api.close();
  await rm(folder, { recursive: true });
});

/** Starts a master, which continues the jobs of the folder. `at` is the port of its API. */
async function startMaster(at: number): Promise<void> {
  const { token } = readToken({ POD_TOKEN_FILE: join(folder, 'token') });
  master = await startServer(folder, undefined, Date.now);
  const source = {
    isReady: () => true,
    status: () => ({}),
    metrics: async () => ({ type: 'text/plain', text: '' }),
  };
  const doorkeeper = new Doorkeeper(token, Date.now);
  const opened = await serveApi(source, '127.0.0.1', at, { jobs: master.server, doorkeeper });
  api = opened;
  port = opened.port;
}

async function pod(...args: string[]): Promise<void> {
  const program = new Command('pod').exitOverride().configureOutput({ outputError: () => {} });
  addLogs(program);
  addJobs(program);
  await program.parseAsync(args, { from: 'user' });
}

const inFolder = (): string[] => ['--dir', folder];

async function refusal(...args: string[]): Promise<PodError> {
  const error = await pod(...args).catch((it) => it);
  expect(error).toBeInstanceOf(PodError);
  expect(error.message).not.toContain('\n');
  return error;
}

async function until(isSo: () => boolean): Promise<void> {
  for (let tries = 0; !isSo(); tries++) {
    expect(tries).toBeLessThan(1000);
    await sleep(10);
  }
}

test('pod submit, jobs, logs and cancel work together', async () => {
  await pod('submit', ...inFolder(), '--', '--model', 'mlp', '--data', 'mnist:/a b');
  await pod('submit', ...inFolder(), '--', '--steps', '20');
  await pod('submit', ...inFolder());
  expect(output).toBe('job-1\njob-2\njob-3\n');
  expect(master.runner.job?.words).toEqual(['--model', 'mlp', '--data', 'mnist:/a b']);
  master.runner.hooks.log({ msg: 'step' });

  output = '';
  await pod('logs', 'job-1', ...inFolder());
  await pod('logs', 'job-2', ...inFolder());
  expect(JSON.parse(output)).toMatchObject({ msg: 'step' });

  output = '';
  await pod('cancel', 'job-2', ...inFolder());
  await master.runner.fail(new PodError('diverged', 'step 3: it diverged'));
  await pod('cancel', 'job-3', ...inFolder());
  expect(output).toBe('job-2: the job is cancelled\njob-3: the job ends after its present step\n');

  output = '';
  await pod('jobs', ...inFolder());
  const rows = output
    .trimEnd()
    .split('\n')
    .map((line) => line.split(/ {3,}/));
  const time = expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/);
  const ran = expect.stringMatching(/^[\d.]+ m?s$/);
  expect(rows).toEqual([
    ['job', 'state', 'submitted', 'ran for', 'flags'],
    [
      ...['job-1', 'failed', time, ran, '--model mlp --data "mnist:/a b"'],
      'diverged: step 3: it diverged',
    ],
    ['job-2', 'cancelled', time, '-', '--steps 20'],
    ['job-3', 'cancelling', time, ran],
  ]);

  output = '';
  await pod('jobs', '--json', ...inFolder());
  expect(JSON.parse(output)).toEqual(master.server.list());
});

test('pod jobs JOB shows one job with its summary', async () => {
  await pod('submit', '--json', ...inFolder(), '--', '--steps', '20');
  expect(JSON.parse(output)).toMatchObject({ id: 'job-1', words: ['--steps', '20'] });
  await master.runner.done();
  output = '';
  await pod('jobs', 'job-1', '--json', ...inFolder());
  expect(JSON.parse(output)).toMatchObject({ state: 'done', report: reportOf('job-1') });
  output = '';
  await pod('jobs', 'job-1', ...inFolder());
  expect(output).toMatch(/^job .*\njob-1 +done .*\n\n\{\n/);
});

test('pod jobs lists all jobs in order, also when they need several answers of the API', async () => {
  const ids = Array.from({ length: 205 }, () => master.server.submit([]).id);
  await pod('jobs', '--json', ...inFolder());
  expect(JSON.parse(output).map(({ id }: { id: string }) => id)).toEqual(ids);
});

describe('pod submit --wait', () => {
  /**
   * Runs `pod submit --wait`, and does `work` once the job runs. Returns the error of `pod submit`,
   * or undefined if it succeeds.
   */
  async function waiting(flags: readonly string[], work: () => Promise<void>): Promise<unknown> {
    const ended = pod('submit', '--wait', ...flags, ...inFolder(), '--', '--steps', '2').then(
      () => undefined,
      (error) => error,
    );
    await until(() => master.runner.job !== undefined);
    await work();
    return ended;
  }
  const twoLines = async (): Promise<void> => {
    for (const msg of ['one', 'two']) {
      master.runner.hooks.log({ msg });
      await until(() => (output + errors).includes(msg));
    }
  };

  test('follows the log to the end', async () => {
    const error = await waiting([], async () => {
      await twoLines();
      await master.runner.done();
    });
    expect([error, process.exitCode]).toEqual([undefined, undefined]);
    expect(output).toMatch(/^job-1\n\{.*"one"\}\n\{.*"two"\}\n$/);
    expect(errors).toBe('');
  });

  test('prints only the summary with --json', async () => {
    await waiting(['--json'], async () => {
      await twoLines();
      await master.runner.done();
    });
    expect(JSON.parse(output)).toEqual(reportOf('job-1'));
    expect(errors).toMatch(/^job-1\n\{.*"one"\}\n/);
  });

  test.each([
    ['bad-data', 2],
    ['worker-exited', 3],
    ['out-of-hbm', 4],
    ['io', 5],
  ] as const)('ends with the error of a job that failed with %s', async (code, exitCode) => {
    const error = await waiting([], () => master.runner.fail(new PodError(code, 'so it was')));
    expect(error).toMatchObject({ code, exitCode, message: 'job-1: so it was' });
  });

  test('fails with an internal error after an internal error of the job', async () => {
    const error = await waiting([], async () => {
      const ended = expect(master.server.ended).rejects.toThrow('ours');
      await master.runner.fail(new Error('ours'));
      await ended;
    });
    expect(error).toBeInstanceOf(Error);
    expect(error).not.toBeInstanceOf(PodError);
    expect(String(error)).toMatch(/job-1: Error: ours/);
  });

  test('ends with exit code 130 when the job is cancelled', async () => {
    await waiting([], async () => {
      master.server.cancel('job-1');
      await master.runner.step();
    });
    expect([process.exitCode, errors]).toEqual([130, 'pod: job-1 was cancelled\n']);
  });

  test('goes on after the master was restarted', async () => {
    const error = await waiting([], async () => {
      master.runner.hooks.log({ msg: 'before' });
      await until(() => output.includes('before'));
      api.close();
      const stopped = master.server.stop();
      await master.runner.step();
      await stopped;
      await startMaster(port);
      master.runner.hooks.log({ msg: 'after' });
      await master.runner.done();
    });
    expect(error).toBeUndefined();
    expect(output.match(/before|after/g)).toEqual(['before', 'after']);
  });
});

describe('a command finds the master', () => {
  const place = (): string => `http://127.0.0.1:${port}`;

  test('by flags, which win over the environment and the folder', async () => {
    vi.stubEnv('POD_API', 'http://127.0.0.1:1');
    vi.stubEnv('POD_TOKEN_FILE', join(folder, 'none'));
    await pod('submit', '--api', place(), '--token-file', join(folder, 'token'));
    await pod('submit', ...inFolder());
    expect(output).toBe('job-1\njob-2\n');
  });

  test('by the environment', async () => {
    vi.stubEnv('POD_API', place());
    vi.stubEnv('POD_TOKEN_FILE', join(folder, 'token'));
    await pod('submit');
    expect(output).toBe('job-1\n');
  });

  test('by the default folder of pod up, .pod', async () => {
    const before = process.cwd();
    await mkdir(join(folder, '.pod'));
    for (const name of ['token', 'pod.json']) {
      await copyFile(join(folder, name), join(folder, '.pod', name));
    }
    process.chdir(folder);
    try {
      await pod('submit');
    } finally {
      process.chdir(before);
    }
    expect(output).toBe('job-1\n');
  });
});

describe('an error of a job command is one line', () => {
  test.each<[string[], string, number, RegExp]>([
    [['submit', '--', '--bad'], 'bad-flag', 2, /^--bad: expected nothing$/],
    [['submit', '--', '--unknown'], 'bad-flag', 2, /unknown option '--unknown'$/],
    [['submit', '--', '--large'], 'out-of-hbm', 4, /^expected less$/],
    [['submit', '--', 'x'.repeat(70_000)], 'too-large', 2, /^body: expected 65536 bytes/],
    [['cancel', 'job-9'], 'no-such-job', 2, /^there is no job "job-9"; pod jobs lists/],
    [['jobs', 'job-9'], 'no-such-job', 2, /./],
    [['logs', 'job-9', '--follow'], 'no-such-job', 2, /./],
    [['logs', '../job-9'], 'no-such-job', 2, /./],
    [['logs', 'job-1', '--tpu', '1'], 'bad-flag', 2, /^--tpu: expected none with a job/],
    [['jobs', '--api', 'localhost:7080'], 'bad-flag', 2, /^--api: expected http:\/\/HOST:PORT/],
    [['jobs', '--api', 'http://127.0.0.1:1/x'], 'bad-flag', 2, /^--api: expected http:/],
    [['jobs', '--api', 'http://127.0.0.1:1'], 'worker-silent', 3, /^no answer from http/],
    [['jobs', '--token-file', 'nowhere'], 'io', 5, /^token file nowhere: /],
  ])('%j', async ([command = '', ...args], code, exitCode, message) => {
    const at = args.indexOf('--');
    const [flags, words] = at < 0 ? [args, []] : [args.slice(0, at), args.slice(at)];
    const error = await refusal(command, ...flags, ...inFolder(), ...words);
    expect(error).toMatchObject({ code, exitCode });
    expect(error.message).toMatch(message);
  });

  test('a folder without a pod', async () => {
    await rm(join(folder, 'pod.json'));
    expect((await refusal('jobs', ...inFolder())).message).toMatch(/expected a pod/);
    expect((await refusal('logs', ...inFolder())).message).toMatch(/expected a pod, found none/);
  });

  test('a wrong token', async () => {
    const file = join(folder, 'other');
    await writeFile(file, 'a token that others know', { mode: 0o600 });
    const error = await refusal('jobs', ...inFolder(), '--token-file', file);
    expect(error).toMatchObject({ code: 'unauthorized', exitCode: 2 });
    expect(error.message).toMatch(
      /refused the request: wrong token; name the file of the token by --token-file/,
    );
  });

  test('a job that has ended', async () => {
    await pod('submit', ...inFolder());
    await master.runner.done();
    expect((await refusal('cancel', 'job-1', ...inFolder())).code).toBe('job-ended');
  });

  test('an internal error of the master is not reported as an error of the user', async () => {
    const error = await pod('submit', ...inFolder(), '--', '--mistake').catch((it) => it);
    expect(error).not.toBeInstanceOf(PodError);
    expect(String(error)).toMatch(/answered with status 500: Error: a mistake of the check$/);
  });

  test('a master that takes no jobs', async () => {
    api.close();
    const source = {
      isReady: () => true,
      status: () => ({}),
      metrics: async () => ({ type: 'text/plain', text: '' }),
    };
    api = await serveApi(source, '127.0.0.1', port);
    const error = await refusal('jobs', ...inFolder());
    expect(error.message).toMatch(/expected a master that takes jobs .* found status 404$/);
  });
});
