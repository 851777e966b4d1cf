import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { ContainerFaults, restartMs } from '../../../cluster/containers/container-faults.ts';
import type { Fault } from '../../../src/fault/plan.ts';
import { FakeDocker } from './fake-docker.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'pod-held-'));
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
  rmSync(folder, { recursive: true });
});

const at = { step: 2 };
const tpuId = 'a'.repeat(64);
const masterId = 'b'.repeat(64);

function begin(faults: readonly Fault[]): {
  readonly docker: FakeDocker;
  readonly injected: ContainerFaults;
} {
  const docker = new FakeDocker();
  const state = { runs: true, isPaused: false, hasNetwork: true, exitCode: 0 };
  docker.containers = [
    { id: tpuId, service: 'tpu', ...state },
    { id: masterId, service: 'master', ...state },
  ];
  const containers = docker.containers.map(({ id, service }) => ({
    ...{ id, service, aliases: { ici: [service, id.slice(0, 12)] } },
  }));
  return { docker, injected: new ContainerFaults({ docker, containers, faults, folder }) };
}

function ask(index: number, host = tpuId.slice(0, 12)): void {
  writeFileSync(join(folder, `ask-${index}`), JSON.stringify({ index, host }));
}

const isAnswered = (index: number): boolean => existsSync(join(folder, `done-${index}`));

/** Lets all Docker commands end that are under way, and those of the next `ms` ms. */
const pass = (ms = 0): Promise<unknown> => vi.advanceTimersByTimeAsync(ms);

test('a killed container is started again after a delay, and only then is the master back', async () => {
  const { docker, injected } = begin([{ fault: 'master-kill', at }]);
  ask(0);
  injected.look();
  await pass();
  expect(docker.commands).toEqual(['kill master']);
  expect([injected.isMasterDown, isAnswered(0)]).toEqual([true, true]);
  await pass(restartMs);
  expect(docker.commands).toEqual(['kill master', 'start master']);
  expect(injected.isMasterDown).toBe(false);
});

test('a request is answered when Docker has done its part, and taken once', async () => {
  const { docker, injected } = begin([{ fault: 'pause', tpu: 0, at, for: { ms: 300 } }]);
  ask(0);
  injected.look();
  injected.look();
  expect(isAnswered(0)).toBe(false);
  await pass();
  expect(isAnswered(0)).toBe(true);
  injected.look();
  await pass(300);
  expect(docker.commands).toEqual(['pause tpu', 'unpause tpu']);
});

test('a container that is cut off gets its names in the network back', async () => {
  const groups = [[1], [0]];
  const { docker, injected } = begin([{ fault: 'partition', groups, at, for: { ms: 300 } }]);
  const aliases: string[] = [];
  const run = docker.run.bind(docker);
  docker.run = (words) => {
    aliases.push(...words.filter((_, i) => words[i - 1] === '--alias'));
    return run(words);
  };
  ask(0);
  injected.look();
  await pass(300);
  expect(docker.commands.map((it) => it.split(' ').slice(0, 2).join(' '))).toEqual([
    'network disconnect',
    'network connect',
  ]);
  expect(aliases).toEqual(['tpu', tpuId.slice(0, 12)]);
});

test('faults of one container overlap: the pause outlives the kill, and ends by itself', async () => {
  const { docker, injected } = begin([
    { fault: 'master-pause', at, for: { ms: restartMs + 200 } },
    { fault: 'master-kill', at },
  ]);
  for (const index of [0, 1]) {
    ask(index);
    injected.look();
    await pass();
  }
  await pass(restartMs);
  expect(docker.commands).toEqual(['pause master', 'kill master', 'start master', 'pause master']);
  await pass(200);
  expect(docker.commands.at(-1)).toBe('unpause master');
  injected.check();
});

test('after the end nothing is lifted any more, and errors do not matter', async () => {
  const { docker, injected } = begin([{ fault: 'pause', tpu: 0, at, for: { ms: 300 } }]);
  ask(0);
  injected.look();
  await pass();
  await injected.end();
  await pass(1000);
  expect(docker.commands).toEqual(['pause tpu']);
  injected.check();
});

test('an unknown container, an unknown fault and a failed command are errors', async () => {
  for (const [host, index] of [
    ['cccccccccccc', 0],
    ['a', 0],
    [tpuId.slice(0, 12), 1],
  ] as const) {
    const { injected } = begin([{ fault: 'kill', tpu: 0, at }]);
    ask(index, host);
    injected.look();
    await pass();
    expect(() => injected.check()).toThrow(/expected/);
    rmSync(join(folder, `ask-${index}`));
  }
  const { docker, injected } = begin([{ fault: 'kill', tpu: 0, at }]);
  docker.run = async () => Promise.reject(new Error('docker kill: no'));
  ask(0);
  injected.look();
  await pass();
  expect(() => injected.check()).toThrow('docker kill: no');
});
