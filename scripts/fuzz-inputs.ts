import { crc32 } from 'node:zlib';
import {
  emptyHeader,
  encodeFrame,
  frameKinds,
  headerBytes,
  smallPayloadBytes,
} from '../cluster/net/frame.ts';
import type { Random } from '../src/numerics/generator.ts';

/** Returns a valid frame of a random kind, as an honest peer could send it. */
export function genuine(random: Random): Buffer {
  const kind = pick(random, Object.values(frameKinds)) ?? frameKinds.hello;
  const lengths = [0, 32, 44, smallPayloadBytes];
  const payload = Buffer.alloc(pick(random, lengths) ?? 0, Math.floor(random() * 3));
  return encodeFrame({ ...emptyHeader(), kind, generation: Math.floor(random() * 5) }, payload);
}

/**
 * Returns a copy of `bytes` with one to three random changes. A change may write a 32-bit number at
 * a random place. The number may be one of `lengths`, which the caller chooses for length fields.
 * In half of all calls, the magic number and the CRCs of the frame are corrected at the end. Then
 * the receiver does not refuse the frame because of them.
 */
export function broken(random: Random, bytes: Buffer, lengths: readonly number[] = []): Buffer {
  let result: Buffer = Buffer.from(bytes);
  const times = 1 + Math.floor(random() * 3);
  for (let i = 0; i < times; i++) result = breakOnce(random, result, lengths);
  if (random() < 0.5 && result.length >= headerBytes) mend(result);
  return result;
}

function breakOnce(random: Random, bytes: Buffer, lengths: readonly number[]): Buffer {
  const at = Math.floor(random() * bytes.length);
  switch (Math.floor(random() * 6)) {
    case 0:
      if (bytes.length > 0) bytes[at] = (bytes[at] ?? 0) ^ (1 << Math.floor(random() * 8));
      return bytes;
    case 1:
      return bytes.subarray(0, at);
    case 2:
      return Buffer.concat([bytes, noise(random, Math.floor(random() * 80))]);
    case 3: {
      const word = pick(random, [...extremes, ...lengths]) ?? 0;
      if (at + 4 <= bytes.length) bytes.writeUInt32LE(word, at);
      return bytes;
    }
    case 4:
      return noise(random, Math.floor(random() * 200));
    default:
      return Buffer.concat([bytes.subarray(0, at), noise(random, 3), bytes.subarray(at)]);
  }
}

const extremes = [0, 1, 0x7fffffff, 0x80000000, 0xffffffff];

function mend(bytes: Buffer): void {
  bytes.write('TPUF', 0, 'latin1');
  bytes.writeUInt32LE(crc32(bytes.subarray(headerBytes)), 28);
  const checked = bytes.subarray(0, headerBytes - 4);
  bytes.writeUInt32LE(crc32(checked), checked.length);
}

export function noise(random: Random, length: number): Buffer {
  return Buffer.from(Uint8Array.from({ length }, () => random() * 256));
}

export function pick<T>(random: Random, values: readonly T[]): T | undefined {
  return values[Math.floor(random() * values.length)];
}

/** Returns a random whole number in [0, `limit`). */
export function below(random: Random, limit: number): number {
  return Math.floor(random() * limit);
}
