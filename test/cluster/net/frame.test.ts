import { crc32 } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { FrameHeader, FrameSink, Refusal } from '../../../cluster/net/frame.ts';
import { encodeFrame, FrameReader, frameKinds, headerBytes } from '../../../cluster/net/frame.ts';
import { Window } from '../../../cluster/net/window.ts';
import { queueDepth } from '../../../src/fabric/fabric-memory.ts';

const word = fc.integer({ min: 0, max: 0xffffffff });
const frame = fc.record({
  kind: fc.constant(frameKinds.tensor),
  epoch: word,
  collective: word,
  sequence: word,
  queue: word,
  code: word,
  payload: fc.uint8Array({ maxLength: 300 }),
});

describe('frames', () => {
  test('are what was sent, in any pieces', () => {
    fc.assert(
      fc.property(
        fc.array(frame, { minLength: 1, maxLength: 5 }),
        fc.array(fc.integer({ min: 1, max: 90 }), { minLength: 1 }),
        fc.boolean(),
        (frames, sizes, pulled) => {
          const stream = Buffer.concat(frames.map((it) => encodeFrame(it, it.payload)));
          const { reader, seen } = collect();
          let start = 0;
          for (let i = 0; start < stream.length; i++) {
            const piece = stream.subarray(start, start + (sizes[i % sizes.length] ?? 1));
            const count = pulled ? pull(reader, piece) : push(reader, piece);
            start += count;
          }
          expect(seen).toEqual(
            frames.map(({ payload, ...rest }) => ({
              header: { ...rest, bytes: payload.length },
              payload: [...payload],
            })),
          );
        },
      ),
    );
  });

  test('with any one bit flipped are never accepted as sent', () => {
    const payload = Uint8Array.from({ length: 64 }, (_, i) => i * 37);
    const sent = {
      kind: frameKinds.tensor,
      epoch: 3,
      collective: 9,
      sequence: 2,
      queue: 5,
      code: 0,
    };
    const whole = encodeFrame(sent, payload);
    for (let bit = 0; bit < whole.length * 8; bit++) {
      const { reader, seen } = collect();
      const flipped = Buffer.from(whole);
      flipped[bit >> 3]! ^= 1 << (bit & 7);
      const refusal = reader.push(flipped);
      expect(refusal, `bit ${bit}`).toBeDefined();
      expect(seen).toEqual([]);
      if (bit >= headerBytes * 8)
        expect(refusal).toMatchObject({ code: 'payload-crc', header: sent });
    }
  });

  test('refuse garbage with its first bytes, and nothing comes after', () => {
    const { reader } = collect();
    expect(reader.push(Buffer.from('G'))).toMatchObject({ code: 'magic' });
    expect(reader.push(encodeFrame(hello))).toMatchObject({ code: 'magic' });
  });

  test('refuse other versions, kinds and lengths by their headers', () => {
    expect(collect().reader.push(encodeFrame(hello, undefined, 2))).toEqual({
      code: 'version',
      text: 'protocol version 2, expected 1',
    });
    const unknown = { ...hello, kind: 99 as FrameHeader['kind'] };
    expect(collect().reader.push(encodeFrame(unknown))).toMatchObject({ code: 'kind' });
    const long = encodeFrame(hello, new Uint8Array(257)).subarray(0, headerBytes);
    expect(collect().reader.push(long)).toMatchObject({ code: 'length' });
  });
});

describe('a window', () => {
  test('holds frames apart, in one piece each, and both ends agree', () => {
    const moves = fc.array(
      fc.record({ bytes: fc.integer({ min: 1, max: 400 }), back: fc.integer({ min: 0, max: 3 }) }),
      { maxLength: 200 },
    );
    fc.assert(
      fc.property(moves, (list) => {
        const size = 1600;
        const sender = new Window(size);
        const receiver = new Window(size);
        const held: { start: number; end: number }[] = [];
        let back = 0;
        for (const { bytes, back: more } of list) {
          expect(sender.hasRoom(bytes)).toBe(receiver.hasRoom(bytes));
          if (sender.hasRoom(bytes)) {
            const start = sender.put(bytes);
            expect(receiver.put(bytes)).toBe(start);
            expect(start + bytes).toBeLessThanOrEqual(size);
            expect(start % 16).toBe(0);
            for (const other of held) {
              expect(start >= other.end || start + bytes <= other.start).toBe(true);
            }
            held.push({ start, end: start + bytes });
            expect(held.length).toBeLessThanOrEqual(queueDepth);
          } else {
            // Half full, it takes the largest frame.
            expect(sender.crowded).toBeGreaterThan(0);
          }
          const given = Math.min(more, held.length);
          held.splice(0, given);
          back += given;
          expect(sender.giveBack(back)).toBe(true);
          expect(receiver.giveBack(back)).toBe(true);
        }
        expect(sender.giveBack(back + held.length + 1)).toBe(false);
      }),
    );
  });
});

const hello = { kind: frameKinds.hello, epoch: 0, collective: 0, sequence: 0, queue: 0, code: 0 };

interface Seen {
  readonly header: FrameHeader;
  readonly payload: readonly number[];
}

function collect(): { readonly reader: FrameReader; readonly seen: Seen[] } {
  const seen: Seen[] = [];
  const sink: FrameSink = {
    place: ({ bytes }) => new Uint8Array(Math.min(bytes, 1000)),
    accept(header, payload): Refusal | undefined {
      seen.push({ header: { ...header }, payload: [...payload] });
      return undefined;
    },
    checksum: (payload) => crc32(payload),
  };
  return { reader: new FrameReader(sink), seen };
}

function push(reader: FrameReader, piece: Uint8Array): number {
  expect(reader.push(piece)).toBeUndefined();
  return piece.length;
}

/** As a socket does that reads into the room. */
function pull(reader: FrameReader, piece: Uint8Array): number {
  const room = reader.room();
  expect(room.length).toBeGreaterThan(0);
  const count = Math.min(room.length, piece.length);
  room.set(piece.subarray(0, count));
  expect(reader.took(count)).toBeUndefined();
  return count;
}
