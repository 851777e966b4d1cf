import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Doorbell } from '../../src/fabric/doorbell.ts';
import type { InLink, Links } from '../../src/fabric/link.ts';
import type { Direction, Torus } from '../../src/fabric/torus.ts';
import {
  chipsOf,
  enteringLinks,
  flatTorus,
  linkCount,
  neighbour,
  placement,
  podTorus,
} from '../../src/fabric/torus.ts';
import { makeSlice, type Slice } from './slice.ts';

const tori: fc.Arbitrary<Torus> = fc.oneof(
  fc
    .record({ columns: fc.integer({ min: 1, max: 3 }), rows: fc.integer({ min: 1, max: 2 }) })
    .map(podTorus),
  fc
    .tuple(fc.integer({ min: 1, max: 4 }), fc.integer({ min: 1, max: 3 }))
    .map(([width, height]) => flatTorus(width, height)),
);

test('the links that enter a worker are those from other workers to its chips, each once', () => {
  fc.assert(
    fc.property(tori, (torus) => {
      const found = Array.from({ length: torus.workers }, (_, it) => enteringLinks(torus, it));
      for (let link = 0; link < linkCount(torus); link++) {
        const to = neighbour(torus, link >> 2, (link & 3) as Direction);
        const [sender, receiver] = [link >> 2, to].map((it) => placement(torus, it).worker);
        const expected = found.map((_, it) => (it === receiver && it !== sender ? 1 : 0));
        expect(found.map((links) => links.filter((it) => it === link).length)).toEqual(expected);
      }
      for (const [worker, links] of found.entries()) {
        const order = links.map((link) => {
          const to = neighbour(torus, link >> 2, (link & 3) as Direction);
          return chipsOf(torus, worker).indexOf(to) * 4 + (link & 3);
        });
        expect(order).toEqual([...order].sort((a, b) => a - b));
      }
    }),
  );
});

/**
 * Measures how long receivers waited for frames on each link. A wait lasts from the first look into
 * an empty queue to the look that finds a frame. The observer sees these looks because it wraps the
 * queues of the links.
 */
class Observer {
  /** While true, all queues say that they have no room for a frame. */
  areFull = false;
  readonly waitedMs: Map<number, number> = new Map();
  readonly #now: () => number;

  constructor(now: () => number) {
    this.#now = now;
  }

  readonly watch = (links: Links): Links => ({
    out: (link, colour) => {
      const queue = links.out(link, colour);
      return {
        crc: queue.crc,
        hasRoom: () => !this.areFull && queue.hasRoom(),
        send: (frame) => queue.send(frame),
        isReleased: (count) => queue.isReleased(count),
      };
    },
    in: (link, colour) => this.#watched(links.in(link, colour), link),
  });

  #watched(queue: InLink, link: number): InLink {
    let sinceMs: number | undefined;
    return {
      isEmpty: () => queue.isEmpty(),
      peek: (frame) => {
        const isThere = queue.peek(frame);
        if (!isThere) sinceMs ??= this.#now();
        else if (sinceMs !== undefined) {
          this.waitedMs.set(link, (this.waitedMs.get(link) ?? 0) + this.#now() - sinceMs);
          sinceMs = undefined;
        }
        return isThere;
      },
      release: () => queue.release(),
      expect: (frame) => queue.expect(frame),
    };
  }
}

describe('on a thread that does nothing but all-reduces', () => {
  test('a wait lasts from the first try that finds no frame to the try that finds it', () => {
    const turns = fc.infiniteStream(fc.tuple(fc.nat(), fc.nat(50), fc.boolean()));
    const lengths = fc.array(fc.integer({ min: 1, max: 500 }), { minLength: 1, maxLength: 3 });
    fc.assert(
      fc.property(tori, lengths, turns, (torus, elements, order) => {
        let nowMs = 0;
        const observer = new Observer(() => nowMs);
        const slice = makeSlice(torus, elements, {
          ...{ now: () => nowMs, idleMsMax: Number.POSITIVE_INFINITY, frameElements: 16 },
          wrap: observer.watch,
        });
        const { workers } = slice;
        for (const bucket of elements.keys()) for (const it of workers) it.start(bucket);
        while (!workers.every((_, it) => isDone(slice, it))) {
          const [turn, ms, areFull] = order.next().value ?? [0, 0, false];
          nowMs += ms;
          observer.areFull = areFull;
          workers[turn % workers.length]?.progress();
        }
        for (const [worker, allReduce] of workers.entries()) {
          const expected = enteringLinks(torus, worker).map(
            (link) => (observer.waitedMs.get(link) ?? 0) / 2,
          );
          expect(allReduce.takeWaits()).toEqual(expected);
          expect(allReduce.takeWaits()).toEqual(expected.map(() => 0));
        }
      }),
      { numRuns: 40 },
    );
  });

  test('a pause of the thread counts only up to the longest time between two calls', () => {
    let nowMs = 0;
    const slice = makeSlice(flatTorus(2, 1), [64], { now: () => nowMs, idleMsMax: 25 });
    const [late, waiting] = slice.workers;
    waiting?.start(0);
    for (const ms of [0, 10, 25, 400]) {
      nowMs += ms;
      waiting?.progress();
    }
    late?.start(0);
    late?.progress();
    nowMs += 3;
    waiting?.progress();
    expect(waiting?.takeWaits()).toEqual([10 + 25 + 25 + 3, 10 + 25 + 25 + 3]);
  });
});

describe('on a thread that also computes', () => {
  test('only the time asleep counts, and only until the frame arrives', () => {
    let nowMs = 0;
    let sleeps = 0;
    const asleep = { wake: (): void => undefined };
    class FakeDoorbell extends Doorbell {
      override sleep(): void {
        nowMs += 30;
        sleeps++;
        asleep.wake();
        this.stayAwake();
      }
    }
    const slice = makeSlice(flatTorus(2, 1), [64], {
      now: () => nowMs,
      doorbell: (...place) => new FakeDoorbell(...place),
    });
    const [waiting, late] = slice.workers;
    waiting?.start(0);
    for (let instruction = 0; instruction < 5; instruction++) {
      nowMs += 1000;
      waiting?.progress();
    }
    asleep.wake = () => {
      if (sleeps === 1) late?.start(0);
      late?.progress();
    };
    waiting?.finish(0, nowMs + 60_000);
    // Worker `waiting` sleeps twice. In the first sleep it waits for a frame of worker `late`. This
    // counts as a wait. In the second sleep it waits until worker `late` has read the last frame
    // that worker `waiting` has sent. This does not count.
    expect(sleeps).toBe(2);
    expect(waiting?.takeWaits()).toEqual([30, 30]);
    expect(late?.takeWaits()).toEqual([0, 0]);
  });
});

function isDone({ workers }: Slice, worker: number): boolean {
  return workers[worker]?.isBusy === false;
}
