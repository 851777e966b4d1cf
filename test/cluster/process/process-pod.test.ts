import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { parseRecord } from '../../../cluster/master/log-record.ts';
import { Token } from '../../../cluster/net/token.ts';
import { Lobby } from '../../../cluster/process/lobby.ts';
import { openProcessPod } from '../../../cluster/process/pod.ts';
import { trainOptions } from '../../../src/cli/options.ts';
import { train } from '../../../src/experiment/train.ts';
import { requireCompiled } from '../compiled.ts';
import { parseExposition, problemsOf } from '../master/exposition.ts';
import { fieldOf, newFolder, pod, processesOf, startProgram, untilSaid } from './pod.ts';

beforeAll(requireCompiled);
// The limits are long because each test starts several processes on a machine that may be busy.
vi.setConfig({ testTimeout: 120_000, hookTimeout: 60_000 });

const folders: string[] = [];
function folder(): string {
  const made = newFolder();
  folders.push(made);
  return made;
}
afterEach(async () => {
  for (const made of folders.splice(0)) {
    await pod('down', '--dir', made).ran;
    rmSync(made, { recursive: true });
  }
});

/** Returns the steps that a finished pod has committed, with the generation of each commit. */
function commitsOf(dir: string): { readonly step: number; readonly generation: number }[] {
  const lines = readFileSync(join(dir, 'ended-commits.jsonl'), 'utf8').trim().split('\n');
  return lines.flatMap((line) => {
    const record = parseRecord(line);
    if (record === undefined || !('commit' in record)) return [];
    return [{ step: record.commit.step, generation: record.generation }];
  });
}

const small = ['--tpus', '2', '--model', 'mlp', '--steps', '4', '--evaluate', '256'];
const endless = ['--tpus', '2', '--model', 'mlp', '--steps', '100000'];

describe('a pod of processes computes the same bits as threads', () => {
  test('in a run of 4 steps, and in a run resumed from a checkpoint', async () => {
    const threads = await pod('train', ...small, '--json').ran;
    const dir = folder();
    const saved = ['--checkpoint', join(dir, 'saved'), '--every', '2'];
    const processes = await pod('up', '--wait', '--dir', dir, ...small, ...saved).ran;
    expect(processes).toMatchObject({ code: 0 });
    for (const field of ['weightsDigest', 'evalAccuracy', 'finalLoss', 'linkBytes']) {
      expect(fieldOf(processes.out, field)).toEqual(fieldOf(threads.out, field));
    }
    expect(fieldOf(processes.out, 'msg')).toBe('summary');

    const newest = readdirSync(join(dir, 'saved')).sort().at(-1) ?? '';
    rmSync(join(dir, 'saved', newest), { recursive: true });
    const resumed = await pod('up', '--wait', '--dir', dir, ...small, ...saved, '--resume').ran;
    expect(resumed).toMatchObject({ code: 0 });
    expect(fieldOf(resumed.out, 'weightsDigest')).toEqual(fieldOf(threads.out, 'weightsDigest'));
    expect(commitsOf(dir).map(({ step }) => step)).toEqual([3, 4]);
  });
});

describe('a lost Cloud TPU is named', () => {
  test('SIGKILL of a worker ends the run with exit code 3', async () => {
    const dir = folder();
    const { ran } = pod('up', '--wait', '--dir', dir, ...endless, '--recovery', 'none');
    await untilSaid(join(dir, 'master.log'), '"msg":"step"');
    process.kill(processesOf(dir).workers[1] ?? 0, 'SIGKILL');
    const { code, err } = await ran;
    expect(code).toBe(3);
    expect(err).toMatch(/Cloud TPU 1 \(x 1, y 0\).*exited/);
  });

  test('a worker that hangs ends the run with exit code 3', async () => {
    const dir = folder();
    const { ran } = pod('up', '--wait', '--dir', dir, ...endless, '--recovery', 'none');
    await untilSaid(join(dir, 'master.log'), '"msg":"step"');
    const worker = processesOf(dir).workers[1] ?? 0;
    process.kill(worker, 'SIGSTOP');
    await untilSaid(join(dir, 'master.log'), 'worker-silent');
    process.kill(worker, 'SIGKILL');
    const { code, err } = await ran;
    expect(code).toBe(3);
    expect(err).toMatch(/Cloud TPU 1 \(x 1, y 0\).*silent/);
  });

  test('workers that never join are named', async () => {
    const { config } = trainOptions({ model: 'mlp', tpus: '2', steps: '1' });
    const log = (): void => undefined;
    const token = new Token(Buffer.from('a token that nobody else knows'));
    const lobby = await Lobby.open({ token, host: '127.0.0.1', port: 0, log });
    const limits = { startMsLimit: 300, graceMsLimit: 300 };
    const kinds: string[] = [];
    const trained = train(config, {
      now: () => performance.now(),
      tell: ({ kind }) => kinds.push(kind),
      openPod: (options) => openProcessPod({ ...options, ...limits, relaxed: true, lobby, log }),
    });
    await expect(trained).rejects.toMatchObject({
      code: 'worker-silent',
      message: expect.stringMatching(/Cloud TPU 0 .*, Cloud TPU 1 .* did not start within 300 ms/),
    });
    expect(kinds).toEqual(['started']);
    await lobby.close();
  });
});

test('two lost workers are replaced, and the bits are those of an undisturbed run', async () => {
  const run = ['--tpus', '4', '--model', 'mlp', '--steps', '40', '--evaluate', '256'];
  const threads = await pod('train', ...run, '--json').ran;
  const dir = folder();
  const { ran } = pod('up', '--wait', '--dir', dir, ...run, '--recovery', 'replace');
  await untilSaid(join(dir, 'master.log'), '"step":5,');
  process.kill(processesOf(dir).workers[1] ?? 0, 'SIGKILL');
  await untilSaid(join(dir, 'master.log'), '"step":20,');
  process.kill(processesOf(dir).workers[0] ?? 0, 'SIGKILL');
  const { code, out } = await ran;
  expect(code).toBe(0);
  for (const field of ['weightsDigest', 'evalAccuracy', 'finalLoss']) {
    expect(fieldOf(out, field)).toEqual(fieldOf(threads.out, field));
  }
  const commits = commitsOf(dir);
  expect(commits.map(({ step }) => step)).toEqual(commits.map((_, i) => i + 1));
  expect(new Set(commits.map(({ generation }) => generation))).toEqual(new Set([1, 2, 3]));
});

test('a paused master: its workers keep their parameters, and nothing is rolled back', async () => {
  const run = ['--tpus', '2', '--model', 'mlp', '--steps', '40', '--evaluate', '256'];
  const threads = await pod('train', ...run, '--json').ran;
  const dir = folder();
  const { ran } = pod('up', '--wait', '--dir', dir, ...run, '--recovery', 'replace');
  await untilSaid(join(dir, 'master.log'), '"step":5,');
  const { master } = processesOf(dir);
  process.kill(master, 'SIGSTOP');
  for (const tpu of [0, 1]) await untilSaid(join(dir, `tpu-${tpu}.log`), '"msg":"master-gone"');
  process.kill(master, 'SIGCONT');
  const { code, out } = await ran;
  expect(code).toBe(0);
  expect(fieldOf(out, 'weightsDigest')).toEqual(fieldOf(threads.out, 'weightsDigest'));
  const log = readFileSync(join(dir, 'master.log'), 'utf8');
  expect(log).toContain('"msg":"lost"');
  expect(log).not.toContain('"msg":"rolled-back"');
  for (const tpu of [0, 1]) {
    expect(readFileSync(join(dir, `tpu-${tpu}.log`), 'utf8')).toContain('"msg":"welcome-back"');
  }
});

test('a worker that was replaced while it was paused becomes a spare and later gets a Cloud TPU', async () => {
  const dir = folder();
  await pod('up', '--dir', dir, ...endless, '--recovery', 'replace').ran;
  await untilSaid(join(dir, 'master.log'), '"msg":"step"');
  const [first = 0, other = 0] = processesOf(dir).workers;
  process.kill(first, 'SIGSTOP');
  await untilSaid(join(dir, 'master.log'), '"msg":"resumed"');
  process.kill(first, 'SIGCONT');
  await untilSaid(join(dir, 'master.log'), '"msg":"spare"');
  process.kill(other, 'SIGKILL');
  await untilSaid(
    join(dir, 'master.log'),
    `"pid":${first},"hostname":"${hostname()}","host":"127.0.0.1","msg":"joined"`,
    2,
  );
});

test('a worker with a wrong token is refused and logs that', async () => {
  const dir = folder();
  await pod('up', '--dir', dir, ...endless).ran;
  await untilSaid(join(dir, 'master.log'), '"msg":"step"');
  const port = /"port":(\d+),"msg":"listening"/.exec(readFileSync(join(dir, 'master.log'), 'utf8'));
  const token = join(dir, 'other-token');
  writeFileSync(token, 'not the token of this pod', { mode: 0o600 });
  const worker = await startProgram('cluster/worker/main', [], {
    POD_MASTER: `127.0.0.1:${port?.[1]}`,
    POD_TOKEN_FILE: token,
    POD_TENSOR_PORT: '0',
    POD_STATUS_FILE: join(dir, 'other.status'),
  }).ran;
  expect(worker.code).toBe(2);
  expect(worker.out).toContain('wrong token');
  await untilSaid(join(dir, 'master.log'), '"msg":"turned-away"');
});

test('pod status and the API show a running pod, and pod down ends it without errors', async () => {
  const dir = folder();
  await pod('up', '--dir', dir, ...endless).ran;
  await untilSaid(join(dir, 'master.log'), '"msg":"step"');
  const second = await pod('up', '--dir', dir, ...endless).ran;
  expect(second).toMatchObject({
    code: 2,
    err: expect.stringContaining('a pod is running in this folder'),
  });
  const { out } = await pod('status', '--dir', dir).ran;
  expect(out).toMatch(/generation 1\nstep \d+\/100000/);
  expect(out).toMatch(/^slowest Cloud TPU [01], /m);
  expect(out).toMatch(/Cloud TPU 1 {2}joined {2}pid \d+/);
  const { apiPort } = processesOf(dir);
  const get = (path: string): Promise<Response> => fetch(`http://127.0.0.1:${apiPort}/${path}`);
  expect((await get('healthz')).status).toBe(200);
  expect((await get('readyz')).status).toBe(200);
  expect((await get('nothing')).status).toBe(404);
  const metrics = await (await get('metrics')).text();
  expect(problemsOf(parseExposition(metrics))).toEqual([]);
  expect(metrics).toMatch(/^pod_steps_total\{job="pod-\d+"\} [1-9]/m);
  expect(metrics).toMatch(/^pod_membership_generation\{job="pod-\d+"\} 1$/m);
  expect(metrics).toMatch(/^pod_tpu_up\{job="pod-\d+",tpu="1"\} 1$/m);
  expect(metrics).toMatch(/^pod_link_bytes_total\{job="pod-\d+",tpu="0",direction="\+x"\} [1-9]/m);
  expect(await pod('down', '--dir', dir).ran).toMatchObject({ code: 0 });
  expect(readFileSync(join(dir, 'master.log'), 'utf8')).toContain('"msg":"stopped"');
  for (const tpu of ['0', '1']) {
    const logs = await pod('logs', '--dir', dir, '--tpu', tpu).ran;
    expect(logs.out).toContain('"msg":"done"');
  }
});
