import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeAll, beforeEach, expect, test, vi } from 'vitest';
import { labelOf } from '../../cluster/containers/project.ts';
import {
  identityOf,
  isAlive,
  ownIdentity,
  type ProcessIdentity,
} from '../../cluster/host/process-identity.ts';
import { heal } from '../../src/cli/chaos-heal.ts';
import { requireCompiled } from '../cluster/compiled.ts';
import { FakeDocker } from '../cluster/containers/fake-docker.ts';
import { endOf, startPod } from './run-pod.ts';

beforeAll(requireCompiled);
let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'heal-'));
  vi.stubEnv('TMPDIR', folder);
});
afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(folder, { recursive: true });
});

/** Identity of a process that has ended. */
async function endedProcess(): Promise<ProcessIdentity> {
  const child = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)']);
  const identity = identityOf(child.pid ?? 0);
  child.kill('SIGKILL');
  await once(child, 'close');
  return identity ?? { pid: 0, start: '' };
}

function temporaryOf({ pid, start }: ProcessIdentity, use: string): string {
  const path = join(folder, `pod-${use}-${pid}-${start}-AbCd12`);
  mkdirSync(path);
  writeFileSync(join(path, 'x'), '');
  return path;
}

/** An engine with what is left of a run. One of its containers is paused. */
function engineWith(runner: ProcessIdentity): FakeDocker {
  const docker = new FakeDocker();
  docker.project = { name: 'pod-chaos-1-ab', label: labelOf(runner) };
  docker.containers = ['tpu', 'master'].map((service, i) => ({
    ...{ id: `${i}`.repeat(64), service, exitCode: 0 },
    ...{ runs: true, isPaused: i === 0, hasNetwork: true },
  }));
  docker.networks = ['ici'];
  docker.volumes = ['token', 'checkpoints'];
  return docker;
}

test('what ended runs have left is lifted and removed, and each thing is said in a line', async () => {
  const runner = await endedProcess();
  const docker = engineWith(runner);
  const folders = ['chaos', 'record', 'search'].map((use) => temporaryOf(runner, use));
  const lines: string[] = [];
  await heal({ docker, say: (line) => lines.push(line) });
  expect(docker.commands[0]).toBe('unpause tpu');
  expect(docker.isEmpty).toBe(true);
  expect(readdirSync(folder)).toEqual([]);
  const [first, ...rest] = lines;
  expect(first).toBe(
    `pod-chaos-1-ab: unpaused 1, removed 2 containers, 1 networks, 2 volumes (runner ${runner.pid} has ended)`,
  );
  expect(rest.sort()).toEqual(
    folders.map((path) => `${path}: removed (runner ${runner.pid} has ended)`),
  );
});

test('what belongs to a run that goes on stays as it is, and so do other folders', async () => {
  const docker = engineWith(ownIdentity());
  temporaryOf(ownIdentity(), 'chaos');
  mkdirSync(join(folder, 'pod-chaos-mine'));
  await heal({ docker });
  expect(docker.commands).toEqual([]);
  expect(readdirSync(folder).length).toBe(2);
});

test('what cannot be removed is an error, and the rest is removed', async () => {
  const runner = await endedProcess();
  temporaryOf(runner, 'chaos');
  const docker = new FakeDocker({ refuses: () => new Error('docker ps: no daemon') });
  await expect(heal({ docker })).rejects.toThrow('docker ps: no daemon');
  expect(readdirSync(folder)).toEqual([]);
});

/**
 * Starts a guard of a process that is to be killed. The only `docker` that the guard finds is a
 * script that notes its words.
 */
async function guarded(): Promise<{
  readonly guard: ChildProcess;
  readonly runner: ChildProcess;
  readonly words: string;
}> {
  const words = join(folder, 'words');
  const docker = join(folder, 'docker');
  writeFileSync(docker, `#!/bin/sh\necho "$*" >>'${words}'\n`);
  chmodSync(docker, 0o755);
  const runner = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)']);
  const identity = identityOf(runner.pid ?? 0) ?? { pid: 0, start: '' };
  temporaryOf(identity, 'chaos');
  const args = ['dist/src/cli/main.cjs', 'chaos', 'guard', `${identity.pid}`, identity.start];
  const guard = spawn(process.execPath, args, {
    stdio: ['pipe', 'ignore', 'ignore'],
    env: { ...process.env, PATH: `${folder}:${process.env['PATH']}` },
  });
  return { guard, runner, words };
}

const left = (): readonly string[] => readdirSync(folder).filter((it) => it.startsWith('pod-'));

test('the guard ends the children of a killed runner, and removes what it has left', async () => {
  const { guard, runner, words } = await guarded();
  const other = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)']);
  const { pid, start } = identityOf(other.pid ?? 0) ?? { pid: 0, start: '' };
  guard.stdin?.write(`${pid} ${start}\n`);
  runner.kill('SIGKILL');
  guard.stdin?.end();
  const [[, signal]] = await Promise.all([once(other, 'close'), once(guard, 'close')]);
  expect(signal).toBe('SIGKILL');
  expect(left()).toEqual([]);
  expect(readFileSync(words, 'utf8')).toMatch(/^ps --all --filter label=tpu-pod\.chaos\.runner /);
});

test('the guard of a runner that has cleaned up does nothing', async () => {
  const { guard, runner, words } = await guarded();
  guard.stdin?.end('done\n');
  await once(guard, 'close');
  runner.kill('SIGKILL');
  expect(left().length).toBe(1);
  expect(existsSync(words)).toBe(false);
});

test('a killed pod chaos run leaves no process and no folder, although a worker stands still', async () => {
  const plan = join(folder, 'plan.yaml');
  writeFileSync(
    plan,
    `run: { tpus: 2, model: mlp, steps: 100000, globalBatch: 16, evaluate: 16 }
faults: [{ fault: hang, tpu: 1, at: { step: 2, phase: all-reduce } }]`,
  );
  const child = startPod(['chaos', 'run', plan, '--ground', 'processes']);
  const ended = endOf(child);
  const chaos = (): string | undefined => left().find((it) => it.startsWith('pod-chaos-'));
  const ledger = (): string => join(folder, chaos() ?? '', 'injected');
  while (chaos() === undefined || !existsSync(ledger()))
    await new Promise((done) => setTimeout(done, 50));
  const list = readFileSync(join(folder, chaos() ?? '', 'pod', 'processes'), 'utf8');
  child.kill('SIGKILL');
  await ended;
  while (chaos() !== undefined) await new Promise((done) => setTimeout(done, 50));
  const all = [...list.matchAll(/^\S+ (\d+) (\S+)$/gm)].map(([, pid, start = '']) => {
    return { pid: Number(pid), start };
  });
  const alive = all.filter(isAlive);
  for (const { pid } of alive) process.kill(pid, 'SIGKILL');
  expect(all.length).toBeGreaterThanOrEqual(3);
  expect(alive).toEqual([]);
}, 120_000);
