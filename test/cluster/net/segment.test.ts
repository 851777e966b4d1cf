import { closeSync, openSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, describe, expect, test } from 'vitest';
import {
  makeSegment,
  mapBytes,
  mapSegment,
  offerBytes,
  unmapSegment,
} from '../../../cluster/net/segment.ts';
import { segmentsHere } from './segments.ts';

const bytes = 3 * mapBytes;

/**
 * Returns a WebAssembly memory (`all`) and a range in the middle of it. All bytes of the memory are
 * 7, so that a test sees writes outside the range.
 */
function makeRange(): { readonly all: Buffer; readonly range: Buffer } {
  const memory = new WebAssembly.Memory({ initial: 8, maximum: 8, shared: true });
  const all = Buffer.from(memory.buffer).fill(7);
  return { all, range: all.subarray(mapBytes, mapBytes + bytes) };
}

const closing: (() => void)[] = [];
afterEach(() => {
  for (const close of closing.splice(0)) close();
});

function made(range: Uint8Array): Buffer {
  const segment = makeSegment(range);
  if (typeof segment === 'string') throw new Error(segment);
  closing.push(segment.close);
  return segment.offer;
}

describe.skipIf(process.platform !== 'linux')('a segment', () => {
  test('begins as zeros, and bytes written at one end are read at the other', () => {
    const [sender, receiver] = [makeRange(), makeRange()];
    const offer = made(sender.range);
    expect(sender.range.every((byte) => byte === 0)).toBe(true);
    expect(mapSegment(offer, receiver.range)).toBeUndefined();
    fc.assert(
      fc.property(fc.nat(bytes - 300), fc.uint8Array({ maxLength: 300 }), (at, written) => {
        sender.range.set(written, at);
        expect(receiver.range.compare(sender.range)).toBe(0);
      }),
    );
    for (const { all } of [sender, receiver]) {
      const around = [all.subarray(0, mapBytes), all.subarray(mapBytes + bytes)];
      expect(around.every((part) => part.every((byte) => byte === 7))).toBe(true);
    }
  });

  test('leaves neither a file nor a mapping behind', () => {
    const before = segmentsHere();
    const files = readdirSync('/dev/shm');
    const [sender, receiver] = [makeRange(), makeRange()];
    const segment = makeSegment(sender.range);
    if (typeof segment === 'string') throw new Error(segment);
    expect(readdirSync('/dev/shm')).toEqual(files);
    expect(mapSegment(segment.offer, receiver.range)).toBeUndefined();
    expect(segmentsHere()).toEqual({ open: before.open + 1, mapped: before.mapped + 2 });
    segment.close();
    sender.range.fill(5);
    expect(receiver.range.every((byte) => byte === 5)).toBe(true);
    for (const { range } of [sender, receiver]) unmapSegment(range);
    expect(segmentsHere()).toEqual(before);
    expect(sender.range.every((byte) => byte === 0)).toBe(true);
    sender.range.fill(6);
    expect(receiver.range.every((byte) => byte === 0)).toBe(true);
  });

  test('is mapped only for a valid offer of its size', () => {
    const [sender, receiver] = [makeRange(), makeRange()];
    const offer = made(sender.range);
    const path = join(tmpdir(), `segment-${process.pid}`);
    const other = openSync(path, 'w+');
    closing.push(() => {
      closeSync(other);
      rmSync(path);
    });
    const wrong: [string, Uint8Array, Uint8Array?][] = [
      ['an offer of 23 bytes', offer.subarray(0, offerBytes - 1)],
      ['of another host', offer, receiver.range.subarray(mapBytes)],
      // An offer contains the number of the offering process, a file descriptor, and the device and
      // inode of the file. The next three offers have a wrong descriptor, device and inode. A real
      // offer is wrong if it reaches another container: there, its process number belongs to
      // another process, which has other files open.
      ['of another host', changed(offer, (it) => it.writeUInt32LE(other, 4))],
      ['of another host', changed(offer, (it) => it.writeBigUInt64LE(1n, 8))],
      ['of another host', changed(offer, (it) => it.writeBigUInt64LE(1n, 16))],
      ['ENOENT', changed(offer, (it) => it.writeUInt32LE(0xffffffff, 0))],
      ['ENOENT', changed(offer, (it) => it.writeUInt32LE(0xffffffff, 4))],
    ];
    const before = segmentsHere();
    for (const [why, it, range = receiver.range] of wrong) {
      expect(mapSegment(it, range)).toContain(why);
    }
    expect(segmentsHere()).toEqual(before);
    expect(receiver.all.every((byte) => byte === 7)).toBe(true);
  });

  test('that cannot be made leaves the memory unchanged and names the error', () => {
    const { all } = makeRange();
    const before = segmentsHere();
    // `mmap` refuses this range, because the range does not begin at the start of a memory page.
    expect(makeSegment(all.subarray(100, 100 + mapBytes))).toBe('mmap: EINVAL');
    expect(all.every((byte) => byte === 7)).toBe(true);
    expect(segmentsHere()).toEqual(before);
  });
});

function changed(offer: Buffer, change: (offer: Buffer) => void): Buffer {
  const copy = Buffer.from(offer);
  change(copy);
  return copy;
}
