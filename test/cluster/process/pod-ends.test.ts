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
// Each starts several processes, on a machine that may be busy.
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

/** Nothing of the pod lives any more. */
function expectNobody(dir: string): void {
  const { supervisor, all = [] } = readProcesses(dir) ?? {};
  const others = all.filter(isAlive);
  expect(others).toEqual([]);
  expect(supervisor !== undefined && isAlive(supervisor)).toBe(false);
}

describe('pod up --wait ends as it is asked to', () => {
  test.each([
    ['SIGINT', 130],
    ['SIGTERM', 143],
    ['SIGHUP', 143],
  ] as const)('%s while it trains: after its step, saved', async (signal, code) => {
    const dir = folder();
    const saved = ['--checkpoint', join(dir, 'saved'), '--every', '100000'];
    const { child, ran } = pod('up', '--wait', '--dir', dir, ...endless, ...saved);
    await untilSaid(join(dir, 'master.log'), '"step":3,');
    child.kill(signal);
    const ended = await ran;
    expect(ended).toMatchObject({ code, out: '' });
    expect(ended.err).toBe(`pod: ${signal}: ending after this step; once more ends at once\n`);
    expect(readFileSync(join(dir, 'master.log'), 'utf8')).toContain('"msg":"stopped"');
    expect(readdirSync(join(dir, 'saved')).some((it) => it.startsWith('step-'))).toBe(true);
    expectNobody(dir);
  });

  test('Ctrl-C as early as can be: the same exit code, and nobody is blamed', async () => {
    for (const afterMs of [300, 600, 900]) {
      const dir = folder();
      const { child, ran } = pod('up', '--wait', '--dir', dir, ...endless);
      await sleep(afterMs);
      child.kill('SIGINT');
      const { code, out, err } = await ran;
      // Before it could hear a signal, that ends it: a shell gives 130 for it too.
      expect([code ?? (child.signalCode === 'SIGINT' ? 130 : null), out]).toEqual([130, '']);
      expect(err).not.toMatch(/killed|crash|lost|exited/);
      expectNobody(dir);
    }
  });

  test('SIGTERM during the evaluation is an end before the end', async () => {
    const dir = folder();
    const words = ['--tpus', '1', '--model', 'mlp', '--global-batch', '8', '--steps', '2'];
    const { child, ran } = pod('up', '--wait', '--dir', dir, ...words);
    await untilSaid(join(dir, 'master.log'), '"msg":"evaluating"');
    child.kill('SIGTERM');
    expect(await ran).toMatchObject({ code: 143, out: '' });
    expect(readFileSync(join(dir, 'master.log'), 'utf8')).not.toContain('"msg":"summary"');
  });
});

describe('a run that cannot succeed ends, once', () => {
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

  test('without --wait the command that started it says so as well', async () => {
    const dir = folder();
    const ended = await pod('up', '--dir', dir, ...tiny, '--data', 'mnist:/nope').ran;
    expect(ended).toMatchObject({ code: 2, err: expect.stringMatching(/^pod: bad-data: \/nope/) });
    expectNobody(dir);
  });
});

describe('a worker that dies before it joins is known with its cause', () => {
  const fail = (how: string, dir: string, ...words: string[]) =>
    startProgram('src/cli/main', ['up', '--wait', '--dir', dir, ...tiny, ...words], {
      NODE_OPTIONS: `--require ${fileURLToPath(new URL('./fail-worker.cjs', import.meta.url))}`,
      FAIL_WORKER: how,
    });

  test.each([
    ['abort', 3, 'worker-exited: Cloud TPU . .*, while joining, exited: killed by SIGABRT'],
    ['engine', 3, 'worker-exited: Cloud TPU . .*: exit code 134: FATAL ERROR: Reached heap limit'],
    ['memory', 4, 'out-of-memory: Cloud TPU . .*: exit code 4: this machine does not give'],
  ])('%s', async (how, code, words) => {
    const dir = folder();
    const ended = await fail(how, dir, '--recovery', 'none').ran;
    expect(ended.code).toBe(code);
    expect(ended.err).toMatch(new RegExp(`^pod: ${words}.*\n$`));
    const [started, gone] = ['worker-started', 'worker-gone'].map((msg) => timeOf(dir, msg));
    expect((gone ?? Number.POSITIVE_INFINITY) - (started ?? 0)).toBeLessThan(10_000);
    expectNobody(dir);
  });

  test('it is replaced as any other is, until it was lost too often', async () => {
    const dir = folder();
    const ended = await fail('engine', dir, '--steps', '3').ran;
    expect(ended.code).toBe(3);
    expect(ended.err).toMatch(/FATAL ERROR: Reached heap limit.*; it was lost too often\n$/);
    const log = readFileSync(join(dir, 'master.log'), 'utf8');
    expect(log.match(/"event":"lost"/g)?.length).toBeGreaterThanOrEqual(5);
  });
});

/** When the master's log says something first, in ms. */
function timeOf(dir: string, msg: string): number | undefined {
  const lines = readFileSync(join(dir, 'master.log'), 'utf8').split('\n');
  const line = lines.find((it) => it.includes(`"msg":"${msg}"`));
  return line === undefined ? undefined : Number(fieldOf(line, 'time'));
}

describe('whoever started a process watches it', () => {
  test('a master that is killed is started again, also when nobody waits', async () => {
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

  test('a pod whose supervisor was killed is not started over', async () => {
    const dir = folder();
    await pod('up', '--dir', dir, ...endless).ran;
    await untilSaid(join(dir, 'master.log'), '"msg":"step"');
    process.kill(processesOf(dir).supervisor, 'SIGKILL');
    const second = await pod('up', '--dir', dir, ...endless).ran;
    expect(second).toMatchObject({
      code: 2,
      err: expect.stringContaining('a pod is running there'),
    });
    const { out } = await pod('down', '--dir', dir).ran;
    expect(out).toContain('ended the master and 2 workers');
    expectNobody(dir);
  });

  test('workers whose master and supervisor were killed go on with the next', async () => {
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

describe('a folder that is no pod’s stays as it is', () => {
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

  test('of a pod that ended, only what pods write is begun anew', async () => {
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

test('a serving pod takes no run, and says where its flags belong', async () => {
  const dir = folder();
  const ended = await pod('up', '--serve', '--dir', dir, '--checkpoint', 'x').ran;
  expect(ended).toMatchObject({
    code: 2,
    err: 'pod: bad-flag: --checkpoint: a pod that serves takes no run; give it to pod submit -- instead\n',
  });
  expect(readdirSync(dir)).toEqual([]);
  folders.pop();
  rmSync(dir, { recursive: true });
});
