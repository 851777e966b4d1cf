import { afterEach, expect, test, vi } from 'vitest';
import { limits } from '../../../cluster/limits.ts';
import { RefusalLog } from '../../../cluster/process/turned-away.ts';

afterEach(() => {
  vi.useRealTimers();
});

test('any number of refused connections adds only a few lines a period to the log', () => {
  vi.useFakeTimers();
  const told: (readonly [msg: string, fields: unknown])[] = [];
  const turnedAway = new RefusalLog((msg, fields) => told.push([msg, fields]));
  const knock = (times: number): void => {
    for (let i = 0; i < times; i++) turnedAway.add('::1', { code: 'token', text: 'wrong token' });
  };
  knock(limits.refusalsLogged + 1000);
  turnedAway.add('::1', { code: 'version', text: 'protocol version 2' });
  expect(told).toHaveLength(limits.refusalsLogged);
  vi.advanceTimersByTime(limits.refusalPeriodMs);
  const codes = { token: 1000, version: 1 };
  expect(told.slice(limits.refusalsLogged)).toEqual([['turned-away-more', { count: 1001, codes }]]);

  knock(2);
  vi.advanceTimersByTime(limits.refusalPeriodMs);
  const one = { address: '::1', code: 'token', cause: 'wrong token' };
  expect(told.slice(limits.refusalsLogged + 1)).toEqual([
    ['turned-away', one],
    ['turned-away', one],
  ]);
});
