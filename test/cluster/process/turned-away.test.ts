import { afterEach, expect, test, vi } from 'vitest';
import { periodMs, TurnedAway, toldMax } from '../../../cluster/process/turned-away.ts';

afterEach(() => {
  vi.useRealTimers();
});

test('however many are turned away, the log grows by a few lines a period', () => {
  vi.useFakeTimers();
  const told: (readonly [msg: string, fields: unknown])[] = [];
  const turnedAway = new TurnedAway((msg, fields) => told.push([msg, fields]));
  const knock = (times: number): void => {
    for (let i = 0; i < times; i++) turnedAway.add('::1', { code: 'token', text: 'wrong token' });
  };
  knock(toldMax + 1000);
  turnedAway.add('::1', { code: 'version', text: 'protocol version 2' });
  expect(told).toHaveLength(toldMax);
  vi.advanceTimersByTime(periodMs);
  const codes = { token: 1000, version: 1 };
  expect(told.slice(toldMax)).toEqual([['turned-away-more', { count: 1001, codes }]]);

  knock(2);
  vi.advanceTimersByTime(periodMs);
  const one = { address: '::1', code: 'token', cause: 'wrong token' };
  expect(told.slice(toldMax + 1)).toEqual([
    ['turned-away', one],
    ['turned-away', one],
  ]);
});
