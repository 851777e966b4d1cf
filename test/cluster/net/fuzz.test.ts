import { expect, test } from 'vitest';
import { fuzz } from '../../../scripts/fuzz-frames.ts';

test('20,000 broken frames and handshakes do not disturb an honest client', async () => {
  const { counts, overSockets, roundTrips, losses } = await fuzz(20_000, 7);
  const all = Object.values(counts).flatMap((it) => Object.values(it));
  expect(all.reduce((sum, it) => sum + it, 0)).toBe(20_000);
  expect(overSockets).toBe(200);
  expect(roundTrips).toBeGreaterThan(100);
  expect(losses).toBe(0);
  // The outcome of an input is `accepted`, or the name of the check that refused the input. Each
  // outcome below must occur at least once. A frame reaches these outcomes only if its magic number
  // and the CRC of its header are right.
  expect(counts['tensor']).toMatchObject({
    accepted: expect.any(Number),
    'payload-crc': expect.any(Number),
    queue: expect.any(Number),
    generation: expect.any(Number),
  });
  if (process.platform === 'linux') {
    expect(counts['shared']).toMatchObject({
      accepted: expect.any(Number),
      'payload-crc': expect.any(Number),
      credit: expect.any(Number),
    });
  }
  expect(counts['control message']).toMatchObject({ accepted: expect.any(Number) });
});
