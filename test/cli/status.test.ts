import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { shell } from './run-pod.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'pod-status-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

const time = '2026-01-02T03:04:05.678Z';

/**
 * Writes the files that an ended pod leaves in the folder. `end` is the record of how the pod
 * ended; without `end`, the record is missing.
 */
function deadPod(end?: Readonly<Record<string, unknown>>, log = ''): void {
  const dir = join(folder, '.pod');
  mkdirSync(dir);
  const pod = { apiPort: 1, controlPort: 2, tpus: 1, args: '', serve: false };
  writeFileSync(join(dir, 'pod.json'), JSON.stringify(pod));
  writeFileSync(join(dir, 'processes'), 'master 4194000 5f2c-1\ntpu-0 4194001 5f2c-2\n');
  writeFileSync(join(dir, 'master.log'), log);
  if (end !== undefined) writeFileSync(join(dir, 'ended.json'), JSON.stringify({ ...end, time }));
}

const pod = (words: string) => shell(`$pod ${words}`, { cwd: folder });

describe('pod status of a pod that has ended prints how it ended, with exit code 3', () => {
  const failed = { level: 50, code: 'diverged', msg: 'step 3: the loss is no number' };
  test.each([
    ['done', { exitCode: 0 }, `at 2026-01-02T03:04:05Z with exit code 0: all of the work was done`],
    ['stopped by a signal', { exitCode: 143 }, 'with exit code 143: the user ended it'],
    [
      'failed',
      { exitCode: 3, code: 'diverged', reason: 'step 3' },
      'at 2026-01-02T03:04:05Z with exit code 3: diverged: step 3',
    ],
    [
      'end that nobody recorded',
      undefined,
      `its exit code is not known; its last error: diverged: ${failed.msg}`,
    ],
  ])('%s', async (_, end, said) => {
    deadPod(end, `${JSON.stringify(failed)}\n{"level":30,"msg":"retired"}\n`);
    const { code, stdout, stderr } = await pod('status');
    expect({ code, stderr }).toEqual({ code: 3, stderr: '' });
    expect(stdout).toMatch(/^\.pod: the pod (has )?ended[^\n]*\n$/);
    expect(stdout).toContain(said);
  });

  test('prints the end as JSON with --json, and exit code 3', async () => {
    deadPod({ exitCode: 5, code: 'io', reason: 'the disk is full' });
    const { code, stdout } = await pod('status --json');
    expect(code).toBe(3);
    const end = { exitCode: 5, code: 'io', reason: 'the disk is full', time };
    expect(JSON.parse(stdout)).toEqual({ phase: 'down', ...end });
  });

  test('pod metrics fails, with exit code 3', async () => {
    deadPod({ exitCode: 0 });
    const { code, stderr } = await pod('metrics');
    expect(code).toBe(3);
    expect(stderr).toMatch(/^pod: worker-exited: \.pod: the pod ended at [^\n]*\n$/);
  });
});

describe('without a pod', () => {
  test.each(['status', 'jobs'])('pod %s says how to start one', async (words) => {
    const { code, stderr } = await pod(words);
    expect(code).toBe(2);
    const expected = '--dir .pod: expected a pod, found none; start a pod with pod up';
    expect(stderr).toBe(
      `pod: bad-flag: ${expected} (for jobs: pod up --serve), or name a master by --api\n`,
    );
  });
});

describe('a master in a container', () => {
  let server: Server;
  let origin: string;
  const member = { tpu: 1, state: 'joined', pid: 7, host: '172.18.0.4', hostname: '0f3a55b1c2d4' };
  const last = { step: 2, steps: 9, loss: 0.5, digest: '00ff', imagesPerSecond: 12_345.6 };
  const full = {
    phase: 'running',
    generation: 3,
    tpus: 1,
    members: [member],
    last,
    linkBytes: { 'a+x': 2048 },
  };
  let answer: unknown;

  beforeAll(async () => {
    server = createServer((request, response) => {
      if (request.url === '/metrics') response.end('pod_steps_total 2\n');
      else response.end(JSON.stringify(answer));
    });
    await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
    origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  });
  afterAll(() => server.close());

  test('pod status lists the container of each Cloud TPU', async () => {
    answer = full;
    const { code, stdout } = await pod(`status --api ${origin}`);
    expect(code).toBe(0);
    expect(stdout.split('\n')).toEqual([
      'running, generation 3',
      'step 2/9  loss 0.5000  12,346 images/s',
      'weights 00ff',
      'Cloud TPU 1  joined  pid 7  172.18.0.4 (0f3a55b1c2d4)',
      'a+x   2.00 KiB',
      '',
    ]);
  });

  test('pod status names the slowest Cloud TPU, since when, and the longest of each phase', async () => {
    const timing = { slowestPhase: 'compute', slowestSince: 1, waitMs: 70, causedMs: 60.5 };
    const slowestLink = { link: 'chip(2,1)+x', waitMs: 71 };
    const slowest = { tpu: 1, ownMs: 90, othersMs: 20 };
    const longest = { compute: { tpu: 1, ms: 88 }, 'all-reduce': { tpu: 0, ms: 75 } };
    const tpuPhaseMs = [[1, 20, 75, 1, 1]];
    const tpuLinkWaitMs = [[71, 2]];
    const times = { timing: { ...timing, slowestLink }, slowest, longest };
    answer = { ...full, last: { ...last, ...times, tpuPhaseMs, tpuLinkWaitMs } };
    const { stdout } = await pod(`status --api ${origin}`);
    expect(stdout.split('\n').slice(3, 8)).toEqual([
      'slowest Cloud TPU 1, since step 1: 90.0 ms of its own work, the others 20.0 ms',
      'its longest phase compute; each of the others waited 60.5 ms for it',
      'longest wait for its frames 71.0 ms, link chip(2,1)+x',
      'longest compute      88.0 ms   Cloud TPU 1',
      'longest all-reduce   75.0 ms   Cloud TPU 0',
    ]);
    const json = await pod(`status --json --api ${origin}`);
    expect(JSON.parse(json.stdout).last).toMatchObject({ ...times, tpuPhaseMs, tpuLinkWaitMs });
  });

  test('pod status --json prints every field that the master answers', async () => {
    const phaseMs = { infeed: 1, compute: 2, 'all-reduce': 3, update: 1, outfeed: 1, commit: 1 };
    const rates = { epoch: 0.2, accuracy: 0.9, learningRate: 0.05, wallMs: 9, phaseMs };
    const members = [{ ...member, since: 4 }];
    answer = { ...full, job: 'pod', spares: 1, members, last: { ...last, ...rates } };
    const { code, stdout } = await pod(`status --json --api ${origin}`);
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toEqual(answer);
  });

  test('is found by POD_API, whatever proxies the environment names', async () => {
    answer = { job: 'pod' };
    const env = `NODE_USE_ENV_PROXY=1 HTTP_PROXY=http://127.0.0.1:9 POD_API=${origin}`;
    const status = await shell(`${env} $pod status`, { cwd: folder });
    expect(status).toMatchObject({ code: 0, stdout: 'idle\n' });
    const metrics = await shell(`${env} $pod metrics`, { cwd: folder });
    expect(metrics).toMatchObject({ code: 0, stdout: 'pod_steps_total 2\n' });
  });

  test('a server that is no master is refused', async () => {
    answer = { members: 'eight' };
    const { code, stderr } = await pod(`status --api ${origin}`);
    expect(code).toBe(2);
    expect(stderr).toContain(`${origin}: expected the API of a master, found another`);
  });
});
