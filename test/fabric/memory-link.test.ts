import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Doorbell } from '../../src/fabric/doorbell.ts';
import {
  layOutFabric,
  queueDepth,
  resetFabric,
  sentBytes,
} from '../../src/fabric/fabric-memory.ts';
import type { Frame, InLink, Links } from '../../src/fabric/link.ts';
import { emptyFrame, unknownCrc } from '../../src/fabric/link.ts';
import { memoryLinks } from '../../src/fabric/memory-link.ts';
import { flatTorus } from '../../src/fabric/torus.ts';
import { drive, inTurn, makeSlice } from './slice.ts';

const torus = flatTorus(2, 2);

const rest = { generation: 1, collective: 2 };

/**
 * Returns a frame with the number `sequence`. If this number is a multiple of 3, the CRC of the
 * frame is unknown. Otherwise the CRC is near the largest possible value.
 */
function makeFrame(sequence: number): Frame {
  const crc = sequence % 3 === 0 ? unknownCrc : 0xffffffff - sequence;
  return { address: 64 * sequence, bytes: 4 * (sequence % 9), ...rest, sequence, crc };
}

describe('memory link', () => {
  it('is a bounded queue that passes frames in order and gets room when they are released', () => {
    fc.assert(
      fc.property(fc.array(fc.boolean(), { maxLength: 300 }), (sends) => {
        const memory = new WebAssembly.Memory({ initial: 1, maximum: 65536, shared: true });
        const layout = layOutFabric(torus, 128);
        resetFabric(memory, layout);
        const out = memoryLinks(memory, layout, torus, new Doorbell(memory, layout, 0)).out(0, 1);
        const into = memoryLinks(memory, layout, torus, new Doorbell(memory, layout, 1)).in(0, 1);
        let [sent, released, bytes] = [0, 0, 0];
        const frame = emptyFrame();
        for (const isSend of sends) {
          expect(out.hasRoom()).toBe(sent - released < queueDepth);
          expect(into.peek(frame)).toBe(sent > released);
          expect(out.isReleased(released)).toBe(true);
          expect(out.isReleased(released + 1)).toBe(false);
          if (isSend && out.hasRoom()) {
            const next = makeFrame(sent++);
            bytes += next.bytes;
            out.send(next);
          } else if (!isSend && into.peek(frame)) {
            expect(frame).toEqual(makeFrame(released++));
            into.release();
          }
        }
        expect([...sentBytes(memory, layout)]).toEqual([bytes, ...Array<number>(15).fill(0)]);
      }),
    );
  });

  it('refuses to open a queue that was not reset', () => {
    const memory = new WebAssembly.Memory({ initial: 1, maximum: 65536, shared: true });
    const layout = layOutFabric(torus, 128);
    const links = memoryLinks(memory, layout, torus, new Doorbell(memory, layout, 0));
    links.out(0, 0).send(makeFrame(0));
    expect(() => links.out(0, 0)).toThrow('not reset');
    resetFabric(memory, layout);
    expect(links.out(0, 0).hasRoom()).toBe(true);
  });

  it.each([
    ['of a newer membership', { generation: 7 }],
    ['of an older membership', { generation: 0 }],
    ['of a later all-reduce', { collective: 3 }],
    ['of an all-reduce that is over', { collective: 0 }],
    ['that came before', { sequence: 0 }],
    ['out of order', { sequence: 5 }],
    ['cut short', { bytes: 4 }],
    ['too long', { bytes: 40_000 }],
  ])('has a frame %s refused by its receiver with the name of the link', (_, change) => {
    const wrap = (links: Links, worker: number): Links => ({
      out: links.out,
      in: (link, colour) =>
        worker === 1 && link === 0
          ? changed(links.in(link, colour), change)
          : links.in(link, colour),
    });
    const slice = makeSlice(torus, [1000, 1000], { wrap, frameElements: 20 });
    for (const worker of slice.workers) for (const bucket of [0, 1]) worker.start(bucket);
    expect(() => drive(slice, 1, inTurn())).toThrow(
      expect.objectContaining({
        code: 'bad-frame',
        message: expect.stringMatching(/^link chip\(0,0\)\+x: expected frame .*, found .*$/),
      }),
    );
  });
});

function changed(link: InLink, change: Partial<Frame>): InLink {
  return {
    isEmpty: () => link.isEmpty(),
    peek: (frame) => {
      const found = link.peek(frame);
      Object.assign(frame, change);
      return found;
    },
    release: () => link.release(),
    expect: (frame) => link.expect(frame),
  };
}
