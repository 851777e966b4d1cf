import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { laneDirection, longestPart, partLength, partStart } from '../../src/fabric/part.ts';

describe('part', () => {
  it('cuts a range into consecutive parts on boundaries of 16 bytes', () => {
    fc.assert(
      fc.property(fc.nat({ max: 100_000 }), fc.integer({ min: 1, max: 16 }), (length, parts) => {
        const starts = Array.from({ length: parts + 1 }, (_, i) => partStart(length, parts, i));
        const lengths = Array.from({ length: parts }, (_, i) => partLength(length, parts, i));
        expect(starts[0]).toBe(0);
        expect(starts[parts]).toBe(length);
        expect(lengths.every((it) => it >= 0)).toBe(true);
        expect(starts.every((it) => it % 4 === 0 || it === length)).toBe(true);
        expect(Math.max(...lengths)).toBeLessThanOrEqual(longestPart(length, parts));
        expect(longestPart(length, parts) - Math.max(...lengths)).toBeLessThan(4);
      }),
    );
  });

  it('cuts 26 elements as documented', () => {
    expect([0, 1, 2, 3, 4].map((i) => partStart(26, 4, i))).toEqual([0, 4, 12, 20, 26]);
  });

  it('assigns each (direction, colour) to one lane', () => {
    expect([0, 1, 2, 3].map((lane) => laneDirection(lane, 0))).toEqual([0, 1, 2, 3]);
    expect([0, 1, 2, 3].map((lane) => laneDirection(lane, 1))).toEqual([2, 3, 0, 1]);
  });
});
