import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { identityOf, isAlive } from '../../../cluster/host/process-identity.ts';
import { readProcesses } from '../../../cluster/process/spawn.ts';
import { requireCompiled } from '../compiled.ts';
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

const tiny = ['--tpus', '2', '--model', 'mlp', '--global-batch', '64', '--evaluate', '64'];
const endless = [...tiny, '--steps', '100000'];

/** Expects that no process of the pod is alive. */
function expectNobody(dir: string): void {
  const { supervisor, all = [] } = readProcesses(dir) ?? {};
  const others = all.filter(isAlive);
  expect(others).toEqual([]);
  expect(supervisor !== undefined && isAlive(supervisor)).toBe(false);
}

describe('pod up --wait ends a pod on a signal', () => {
  test.each([
    ['SIGINT', 130],
    ['SIGTERM', 143],
    ['SIGHUP', 143],
  ] as const)('%s in training: after the step, and saved', async (signal, code) => {
    const dir = folder();
    const saved = ['--checkpoint', join(dir, 'saved'), '--every', '100000'];
    const { child, ran } = pod('up', '--wait', '--dir', dir, ...endless, ...saved);
    await untilSaid(join(dir, 'master.log'), '"step":3,');
    child.kill(signal);
    const ended = await ran;
    expect(ended).toMatchObject({ code, out: '' });
    expect(ended.err).toBe(
      `pod: ${signal}: the pod ends after this step; a second signal ends it at once\n`,
    );
    expect(readFileSync(join(dir, 'master.log'), 'utf8')).toContain('"msg":"stopped"');
    expect(readdirSync(join(dir, 'saved')).some((it) => it.startsWith('step-'))).toBe(true);
    expectNobody(dir);
  });

  test('two signals to the supervisor in the background end all, and the end is recorded', async () => {
    const dir = folder();
    expect(await pod('up', '--dir', dir, ...endless).ran).toMatchObject({ code: 0 });
    await untilSaid(join(dir, 'master.log'), '"step":3,');
    const pid = readProcesses(dir)?.supervisor?.pid ?? 0;
    process.kill(pid, 'SIGTERM');
    await sleep(50);
    process.kill(pid, 'SIGTERM');
    await untilSaid(join(dir, 'supervisor.log'), '"msg":"pod-ended"');
    await vi.waitFor(() => expectNobody(dir), { timeout: 20_000 });
    const { code, out } = await pod('status', '--dir', dir).ran;
    expect(out).toContain('with exit code 143');
    expect(code).toBe(3);
  });

  test('SIGINT soon after the start: the same exit code, and no error', async () => {
    for (const afterMs of [300, 600, 900]) {
      const dir = folder();
      const { child, ran } = pod('up', '--wait', '--dir', dir, ...endless);
      await sleep(afterMs);
      child.kill('SIGINT');
      const { code, out, err } = await ran;
      // If SIGINT arrives before `pod` has installed its signal handlers, SIGINT kills `pod`. Then
      // `code` is null. A shell would report exit code 130, as if `pod` had handled the signal.
      expect([code ?? (child.signalCode === 'SIGINT' ? 130 : null), out]).toEqual([130, '']);
      expect(err).not.toMatch(/killed|crash|lost|exited/);
      expectNobody(dir);
    }
  });

  test('SIGTERM during the evaluation: exit code 143 and no summary', async () => {
    const dir = folder();
    const words = ['--tpus', '1', '--model', 'mlp', '--global-batch', '8', '--steps', '2'];
    const { child, ran } = pod('up', '--wait', '--dir', dir, ...words);
    await untilSaid(join(dir, 'master.log'), '"msg":"evaluating"');
    child.kill('SIGTERM');
    expect(await ran).toMatchObject({ code: 143, out: '' });
    expect(readFileSync(join(dir, 'master.log'), 'utf8')).not.toContain('"msg":"summary"');
  });
});

describe('a run that cannot succeed ends and is not started again', () => {
  test.each([
    ['diverged', 3, [...tiny, '--steps', '30', '--learning-rate', '1e6', '--warm-up', '0']],
    ['bad-data', 2, [...tiny, '--data', 'mnist:/nope', '--steps', '3']],
    ['io', 5, [...tiny, '--checkpoint', '/proc/nope', '--steps', '3']],
  ] as const)('%s', async (reason, code, words) => {
    const dir = folder();
    const ended = await pod('up', '--wait', '--dir', dir, ...words).ran;
    expect(ended.code).toBe(code);
    expect(ended.err).toMatch(new RegExp(`^pod: ${reason}: [^\n]*\n$`));
    const logs = readdirSync(dir).includes('master.log')
      ? readFileSync(join(dir, 'master.log'), 'utf8')
      : '';
    expect(logs.match(/"msg":"starting"|"msg":"listening"/g)?.length ?? 0).toBeLessThanOrEqual(1);
  });

  test('without --wait pod up reports the error as well', async () => {
    const dir = folder();
    const ended = await pod('up', '--dir', dir, ...tiny, '--data', 'mnist:/nope').ran;
    expect(ended).toMatchObject({ code: 2, err: expect.stringMatching(/^pod: bad-data: \/nope/) });
    expectNobody(dir);
  });
});

describe('the death of a worker before it joins is reported with its cause', () => {
  const fail = (how: string, dir: string, ...words: string[]) =>
    startProgram('src/cli/main', ['up', '--wait', '--dir', dir, ...tiny, ...words], {
      NODE_OPTIONS: `--require ${fileURLToPath(new URL('./fail-worker.cjs', import.meta.url))}`,
      FAIL_WORKER: how,
    });

  test.each([
    ['abort', 3, 'worker-exited: Cloud TPU . .*, while joining, exited: killed by SIGABRT'],
    ['engine', 3, 'worker-exited: Cloud TPU . .*: exit code 134: FATAL ERROR: Reached heap limit'],
    [
      'memory',
      4,
      'out-of-memory: Cloud TPU . .*: exit code 4: \\d+ MiB of shared memory could not be',
    ],
  ])('%s', async (how, code, words) => {
    const dir = folder();
    const ended = await fail(how, dir, '--recovery', 'none').ran;
    expect(ended.code).toBe(code);
    expect(ended.err).toMatch(new RegExp(`^pod: ${words}.*\n$`));
    const [started, gone] = ['worker-started', 'worker-gone'].map((msg) => timeOf(dir, msg));
    expect((gone ?? Number.POSITIVE_INFINITY) - (started ?? 0)).toBeLessThan(10_000);
    expectNobody(dir);
  });

  test('the worker is replaced until it was lost too often', async () => {
    const dir = folder();
    const ended = await fail('engine', dir, '--steps', '3').ran;
    expect(ended.code).toBe(3);
    expect(ended.err).toMatch(/FATAL ERROR: Reached heap limit.*; it was lost too often\n$/);
    const log = readFileSync(join(dir, 'master.log'), 'utf8');
    expect(log.match(/"event":"lost"/g)?.length).toBeGreaterThanOrEqual(5);
  });
});

/** Returns the time of the first line with this message in the master's log, in ms since 1970. */
function timeOf(dir: string, msg: string): number | undefined {
  const lines = readFileSync(join(dir, 'master.log'), 'utf8').split('\n');
  const line = lines.find((it) => it.includes(`"msg":"${msg}"`));
  return line === undefined ? undefined : Number(fieldOf(line, 'time'));
}

describe('a process is watched by the process that started it', () => {
  test('a killed master is started again, also without --wait', async () => {
    const dir = folder();
    await pod('up', '--dir', dir, ...endless).ran;
    const log = join(dir, 'master.log');
    await untilSaid(log, '"step":5,');
    const { master } = processesOf(dir);
    process.kill(master, 'SIGKILL');
    await untilSaid(log, '"msg":"commits-found"', 2);
    await untilSaid(join(dir, 'tpu-0.log'), '"msg":"welcome-back"');
    expect(processesOf(dir).master).not.toBe(master);
    const { out } = await pod('down', '--dir', dir).ran;
    expect(out).toBe(`${dir}: ended the master and 2 workers\n`);
    expectNobody(dir);
    const again = await pod('down', '--dir', dir).ran;
    expect(again).toMatchObject({ code: 0, out: `${dir}: the pod had ended already\n` });
  });

  test('pod up refuses to start a second pod over one whose supervisor was killed', async () => {
    const dir = folder();
    await pod('up', '--dir', dir, ...endless).ran;
    await untilSaid(join(dir, 'master.log'), '"msg":"step"');
    process.kill(processesOf(dir).supervisor, 'SIGKILL');
    const second = await pod('up', '--dir', dir, ...endless).ran;
    expect(second).toMatchObject({
      code: 2,
      err: expect.stringContaining('a pod is running in this folder'),
    });
    const { out } = await pod('down', '--dir', dir).ran;
    expect(out).toContain('ended the master and 2 workers');
    expectNobody(dir);
  });

  test('workers whose master and supervisor were killed go on with the next master', async () => {
    const dir = folder();
    await pod('up', '--dir', dir, ...endless).ran;
    await untilSaid(join(dir, 'master.log'), '"step":5,');
    const { supervisor, master } = processesOf(dir);
    process.kill(supervisor, 'SIGKILL');
    process.kill(master, 'SIGKILL');
    while (identityOf(master) !== undefined) await sleep(20);
    const second = await pod('up', '--dir', dir, ...endless).ran;
    expect(second).toMatchObject({ code: 0, out: expect.stringContaining('started again') });
    await untilSaid(join(dir, 'tpu-1.log'), '"msg":"welcome-back"');
  });
});

describe('a folder that does not belong to a pod is refused and stays unchanged', () => {
  test.each([
    ['the files of somebody else', { 'master.log': 'mine', 'commits.jsonl': 'mine too' }],
    ['a pod.json of something else', { 'pod.json': '{"name":"my pod"}' }],
    ['a file that only looks like ours', { processes: 'init 1', 'x.log': '' }],
  ] as const)('%s', async (_, files) => {
    const dir = folder();
    for (const [name, text] of Object.entries(files)) writeFileSync(join(dir, name), text);
    const ended = await pod('up', '--dir', dir, ...tiny).ran;
    expect(ended.code).toBe(2);
    expect(ended.err).toMatch(/^pod: bad-\w+: [^\n]*\n$/);
    const found = readdirSync(dir).map((name) => [name, readFileSync(join(dir, name), 'utf8')]);
    expect(Object.fromEntries(found)).toEqual(files);
    folders.pop();
    rmSync(dir, { recursive: true });
  });

  test('a new pod in the folder of an old one replaces only files that pods write', async () => {
    const dir = folder();
    const run = ['up', '--wait', '--dir', dir, ...tiny, '--steps', '1'];
    expect(await pod(...run).ran).toMatchObject({ code: 0 });
    writeFileSync(join(dir, 'notes.log'), 'mine');
    mkdirSync(join(dir, 'jobs'));
    expect(await pod(...run).ran).toMatchObject({ code: 0 });
    expect(readFileSync(join(dir, 'notes.log'), 'utf8')).toBe('mine');
    expect(readdirSync(dir)).toContain('jobs');
  });

  test('a folder without a name is refused', async () => {
    for (const dir of ['', ' ']) {
      expect(await pod('up', '--dir', dir, ...tiny).ran).toMatchObject({ code: 2 });
    }
  });
});

test('a serving pod refuses flags of a run and says where they belong', async () => {
  const dir = folder();
  const ended = await pod('up', '--serve', '--dir', dir, '--checkpoint', 'x').ran;
  expect(ended).toMatchObject({
    code: 2,
    err: 'pod: bad-flag: --checkpoint: a pod that takes jobs has no run of its own; give this setting to pod submit, after --\n',
  });
  expect(readdirSync(dir)).toEqual([]);
  folders.pop();
  rmSync(dir, { recursive: true });
});
