import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { RunEvent, RunFact } from '../../src/run/event.ts';
import { RunStream, type Sink } from '../../src/run/stream.ts';
import { fact } from './facts.ts';

/** A sink that keeps its events. */
class Kept implements Sink {
  readonly events: RunEvent[] = [];
  ends = 0;

  take(event: RunEvent): void {
    this.events.push(event);
  }

  end(): void {
    this.ends++;
  }
}

test('all sinks receive all events, in order, with numbers from 0 and the version', () => {
  fc.assert(
    fc.property(fc.array(fact), (facts) => {
      const sinks = [new Kept(), new Kept(), new Kept()];
      const stream = new RunStream(sinks);
      for (const it of facts) stream.tell(it);
      stream.end();
      for (const { events, ends } of sinks) {
        expect(events.map(({ n, v }) => [n, v])).toEqual(facts.map((_, i) => [i, 1]));
        expect(events.map(({ n: _, v: __, generation: ___, ...it }) => it)).toEqual(facts);
        expect(ends).toBe(1);
      }
    }),
  );
});

const waits = (step: number): RunFact => ({ kind: 'evaluating', step, samples: 1 });

test('an event that a sink tells while it takes another reaches all sinks after that one', () => {
  const [first, last] = [new Kept(), new Kept()];
  const told: Sink = {
    take: (event) => {
      if (event.n < 3) stream.tell(waits(event.n + 1));
    },
  };
  const stream = new RunStream([first, told, last]);
  stream.tell(waits(0));
  expect(last.events).toEqual(first.events);
  expect(last.events.map(({ n }) => n)).toEqual([0, 1, 2, 3]);
});

test('an event has the membership that it names, otherwise the present one', () => {
  const kept = new Kept();
  const stream = new RunStream([kept]);
  stream.tell(waits(1));
  stream.generation = 2;
  stream.tell(waits(1));
  const note = { event: 'lost', generation: 1, program: 0, step: 3, tpu: 1 } as const;
  stream.tell({ kind: 'note', note: { ...note, cause: 'killed', elapsedMs: 0 } });
  stream.tell({ kind: 'pod', level: 'info', msg: 'joined', fields: { tpu: 1, generation: 3 } });
  stream.tell({ kind: 'pod', level: 'info', msg: 'worker-gone', fields: { tpu: 1 } });
  expect(kept.events.map(({ generation }) => generation)).toEqual([undefined, 2, 1, 3, 2]);
});

test('after a sink has thrown, the stream goes on with the next event', () => {
  const kept = new Kept();
  const failing: Sink = {
    take: ({ n }) => {
      if (n === 1) throw new Error('full');
    },
  };
  const stream = new RunStream([failing, kept]);
  stream.tell(waits(0));
  expect(() => stream.tell(waits(1))).toThrow('full');
  stream.tell(waits(2));
  expect(kept.events.map(({ n }) => n)).toEqual([0, 2]);
});
