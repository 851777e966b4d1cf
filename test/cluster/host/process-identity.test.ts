import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { expect, test } from 'vitest';
import { identityOf, isAlive, ownIdentity } from '../../../cluster/host/process-identity.ts';

test('this process is alive and keeps its identity', () => {
  const own = ownIdentity();
  expect(own.pid).toBe(process.pid);
  expect(isAlive(own)).toBe(true);
  expect(identityOf(process.pid)).toEqual(own);
});

test('the same process number with another start time is another process', () => {
  const { pid, start } = ownIdentity();
  expect(start).not.toBe('');
  expect(isAlive({ pid, start: `${start}0` })).toBe(false);
});

test('a process that has ended is not alive, also before its parent has noticed', async () => {
  const child = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)'], { stdio: 'ignore' });
  await once(child, 'spawn');
  const identity = identityOf(child.pid ?? 0);
  expect(identity !== undefined && isAlive(identity)).toBe(true);
  const exited = once(child, 'exit');
  child.kill('SIGKILL');
  await exited;
  expect(identity !== undefined && isAlive(identity)).toBe(false);
});

test('numbers that stand for groups of processes have no identity', () => {
  for (const pid of [0, -1, 1.5, Number.NaN]) expect(identityOf(pid)).toBeUndefined();
});
