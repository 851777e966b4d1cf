import { crc32 } from 'node:zlib';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { crcScratchBytes, FrameCrc } from '../../../src/fabric/kernels/crc.ts';

const most = 131072;
const memory = new WebAssembly.Memory({ initial: 16, maximum: 65536, shared: true });
const bytes = Buffer.from(memory.buffer);
const start = 1024 + crcScratchBytes;
const crc = new FrameCrc(memory, 1024);

test('the CRC of any range equals that of zlib', () => {
  const length = fc.oneof(
    fc.integer({ min: 0, max: most }),
    // FrameCrc computes the CRC of a range of at least 11,776 bytes itself, in units of 16 bytes.
    // For shorter ranges it calls zlib. The next line makes lengths near the limit. The line after
    // it makes multiples of 16 bytes.
    fc.integer({ min: 11_760, max: 11_800 }),
    fc.integer({ min: 720, max: most / 16 }).map((lanes) => lanes * 16),
  );
  fc.assert(
    fc.property(length, fc.integer({ min: 0, max: 40 }), fc.integer(), (count, shift, seed) => {
      const range = bytes.subarray(start + shift, start + shift + count);
      for (let i = 0; i < count; i++) range[i] = Math.imul(i ^ seed, 2654435761) >>> 13;
      expect(crc.of(start + shift, count)).toBe(crc32(range));
    }),
    { numRuns: 100 },
  );
});

test('the CRC does not depend on the pieces in which a range arrives', () => {
  const pieces = fc.array(fc.integer({ min: 0, max: 40_000 }), { maxLength: 12 });
  const other = new FrameCrc(memory, start + most + 64);
  fc.assert(
    fc.property(pieces, fc.integer(), (counts, seed) => {
      const count = Math.min(
        most,
        counts.reduce((sum, it) => sum + it, 0),
      );
      const range = bytes.subarray(start, start + count);
      for (let i = 0; i < count; i++) range[i] = Math.imul(i ^ seed, 2654435761) >>> 13;
      crc.begin(start, count);
      let end = 0;
      for (const it of counts) {
        end = Math.min(count, end + it);
        crc.take(end);
        // `other` computes a CRC between two pieces of `crc`. This must not disturb `crc`.
        expect(other.of(start, end)).toBe(crc32(range.subarray(0, end)));
      }
      expect(crc.end()).toBe(crc32(range));
    }),
    { numRuns: 200 },
  );
});

test('the CRC is right for every place in the ring at which a message can begin', () => {
  for (let lanes = 2 * 368; lanes <= 3 * 368; lanes++) {
    const range = bytes.subarray(start, start + lanes * 16);
    for (let i = 0; i < range.length; i++) range[i] = Math.imul(i ^ lanes, 2654435761) >>> 13;
    expect(crc.of(start, range.length)).toBe(crc32(range));
  }
});

test('the CRC does not depend on an earlier one that was begun and dropped', () => {
  for (let i = 0; i < most; i++) bytes[start + i] = Math.imul(i, 2654435761) >>> 13;
  for (let lanes = 2 * 368; lanes <= 3 * 368; lanes++) {
    crc.begin(start, most);
    crc.take(most >> 1);
    const range = bytes.subarray(start, start + lanes * 16);
    expect(crc.of(start, range.length)).toBe(crc32(range));
  }
});

test('a flipped bit of a frame changes the CRC', () => {
  const range = bytes.subarray(start, start + most).fill(0x5a);
  const sound = crc.of(start, most);
  for (let bit = 0; bit < most * 8; bit += 1009) {
    range[bit >> 3]! ^= 1 << (bit & 7);
    expect(crc.of(start, most)).not.toBe(sound);
    range[bit >> 3]! ^= 1 << (bit & 7);
  }
});
