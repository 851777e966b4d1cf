import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { FrameHeader, FrameSink, Refusal } from '../../../cluster/net/frame.ts';
import {
  emptyHeader,
  encodeFrame,
  FrameReader,
  frameKinds,
  headerBytes,
} from '../../../cluster/net/frame.ts';
import { Slots } from '../../../cluster/net/slots.ts';
import { Window } from '../../../cluster/net/window.ts';

const word = fc.integer({ min: 0, max: 0xffffffff });
const frame = fc.record({
  kind: fc.constant(frameKinds.tensor),
  generation: word,
  collective: word,
  sequence: word,
  queue: word,
  returned: word,
  payload: fc.uint8Array({ maxLength: 300 }),
});

describe('frames', () => {
  test('are parsed from any pieces to what was sent', () => {
    fc.assert(
      fc.property(
        fc.array(frame, { minLength: 1, maxLength: 5 }),
        fc.array(fc.integer({ min: 1, max: 90 }), { minLength: 1 }),
        fc.boolean(),
        fc.integer({ min: 0, max: headerBytes }),
        (frames, sizes, pulled, slack) => {
          const stream = Buffer.concat(frames.map((it) => encodeFrame(it, it.payload)));
          const { reader, seen } = collect(slack);
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
      generation: 3,
      collective: 9,
      sequence: 2,
      queue: 5,
      returned: 0,
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

  test('garbage is refused at its first bytes, and so is all that follows', () => {
    const { reader } = collect();
    expect(reader.push(Buffer.from('G'))).toMatchObject({ code: 'magic' });
    expect(reader.push(encodeFrame(hello))).toMatchObject({ code: 'magic' });
  });

  test('wrong versions, kinds and lengths are refused by the header alone', () => {
    expect(collect().reader.push(encodeFrame(hello, undefined, 9))).toEqual({
      code: 'version',
      text: 'protocol version 9, expected 8',
    });
    const unknown = { ...hello, kind: 99 as FrameHeader['kind'] };
    expect(collect().reader.push(encodeFrame(unknown))).toMatchObject({ code: 'kind' });
    const long = encodeFrame(hello, new Uint8Array(257)).subarray(0, headerBytes);
    expect(collect().reader.push(long)).toMatchObject({ code: 'length' });
  });
});

describe('a window of credits', () => {
  test('has room for its number of frames, and both ends agree on the number under way', () => {
    const moves = fc.array(fc.integer({ min: 0, max: 4 }), { maxLength: 200 });
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 9 }), moves, (size, list) => {
        const [sender, receiver] = [new Window(size), new Window(size)];
        let [held, back] = [0, 0];
        for (const move of list) {
          expect(sender.hasRoom).toBe(held < size);
          expect(sender.releasesNeeded).toBe(
            Math.max(0, held - size + Math.max(1, Math.floor(size / 4))),
          );
          if (sender.hasRoom) {
            sender.put();
            receiver.put();
            held++;
          }
          const given = Math.min(move, held);
          held -= given;
          back += given;
          for (const end of [sender, receiver]) {
            expect(end.release(back + held + 1)).toBe(false);
            expect(end.release(back)).toBe(true);
            expect([end.frames, end.back]).toEqual([held, back]);
          }
        }
      }),
    );
  });
});

describe('a window that is narrowed', () => {
  test('lets the sender put fewer, and the receiver accept all that were under way', () => {
    const sizes = fc.tuple(fc.integer({ min: 1, max: 9 }), fc.integer({ min: 1, max: 9 }));
    const moves = fc.array(fc.integer({ min: 0, max: 4 }), { maxLength: 50 });
    fc.assert(
      fc.property(sizes, fc.nat(9), moves, ([one, other], before, list) => {
        const [narrow, wide] = [Math.min(one, other), Math.max(one, other)];
        const [sender, receiver] = [new Window(wide), new Window(wide)];
        const put = (): void => {
          if (sender.hasRoom) for (const end of [sender, receiver]) end.put();
        };
        for (let i = 0; i < before; i++) put();
        let held = Math.min(before, wide);
        expect(receiver.isFull).toBe(held === wide);
        for (const end of [sender, receiver]) end.narrow(narrow);
        for (const move of list) {
          expect([sender.frames, receiver.frames]).toEqual([held, held]);
          expect(sender.hasRoom).toBe(held < narrow);
          expect(receiver.isFull).toBe(held === wide);
          const quarter = Math.max(1, Math.floor(narrow / 4));
          expect(receiver.releasesNeeded).toBe(Math.max(0, held - narrow + quarter));
          if (sender.hasRoom) held++;
          put();
          held -= Math.min(move, held);
          for (const end of [sender, receiver]) end.release(end.count - held);
        }
      }),
    );
  });
});

describe('slots', () => {
  test('do not overlap, and the last returned slot is taken first', () => {
    fc.assert(
      fc.property(fc.array(fc.boolean(), { maxLength: 100 }), (takes) => {
        const slots = new Slots(4096, 128, 5);
        const taken: number[] = [];
        let last: number | undefined;
        for (const isTake of takes) {
          if (isTake && taken.length < 5) {
            const slot = slots.take();
            expect(slots.has(slot) && slots.has(slot + 127)).toBe(true);
            expect((slot - 4096) % 128).toBe(0);
            expect(taken).not.toContain(slot);
            if (last !== undefined) expect(slot).toBe(last);
            last = undefined;
            taken.push(slot);
          } else if (!isTake && taken.length > 0) {
            last = taken.shift() ?? 0;
            slots.give(last);
          }
        }
        expect(slots.has(4095) || slots.has(4096 + 5 * 128)).toBe(false);
      }),
    );
  });
});

const hello = { ...emptyHeader(), kind: frameKinds.hello };

interface Seen {
  readonly header: FrameHeader;
  readonly payload: readonly number[];
}

/**
 * Returns a frame reader, and a list to which the reader adds each frame that it accepts. The
 * reader puts a payload into a buffer that is `slack` bytes longer than the payload.
 */
function collect(slack = 0): { readonly reader: FrameReader; readonly seen: Seen[] } {
  const seen: Seen[] = [];
  const sink: FrameSink = {
    place: ({ bytes }) => new Uint8Array(Math.min(bytes, 1000) + (bytes > 0 ? slack : 0)),
    accept(header, payload): Refusal | undefined {
      seen.push({ header: { ...header }, payload: [...payload] });
      return undefined;
    },
  };
  return { reader: new FrameReader(sink), seen };
}

function push(reader: FrameReader, piece: Uint8Array): number {
  expect(reader.push(piece)).toBeUndefined();
  return piece.length;
}

/**
 * Copies bytes of `piece` into the buffer that the reader offers (`room`), as a socket would do.
 * Returns the number of copied bytes.
 */
function pull(reader: FrameReader, piece: Uint8Array): number {
  const room = reader.room();
  expect(room.length).toBeGreaterThan(0);
  const count = Math.min(room.length, piece.length);
  room.set(piece.subarray(0, count));
  expect(reader.took(count)).toBeUndefined();
  return count;
}
