import { expect, test, vi } from 'vitest';
import { collectLeftovers } from '../../../cluster/worker/collector.ts';

test('a rise of memory makes the collector run three times and then no more', () => {
  vi.useFakeTimers();
  try {
    const collect = vi.fn();
    collectLeftovers(collect);
    vi.advanceTimersByTime(20_000);
    collect.mockClear();
    const large = new Uint8Array(64 * 2 ** 20);
    vi.advanceTimersByTime(20_000);
    expect(large.length).toBeGreaterThan(0);
    expect(collect).toHaveBeenCalledTimes(3);
  } finally {
    vi.useRealTimers();
  }
});
