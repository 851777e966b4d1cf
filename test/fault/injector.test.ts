import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Injector, matches, memoryLedger, type Point } from '../../src/fault/injector.ts';
import { type Fault, type StepPhase, stepPhases } from '../../src/fault/plan.ts';

const kill: Fault = { fault: 'kill', tpu: 3, at: { step: 10, phase: 'reduce-scatter', hop: 2 } };
const points: fc.Arbitrary<Point> = fc.record({
  kind: fc.constant('step' as const),
  step: fc.integer({ min: 1, max: 4 }),
  phase: fc.constantFrom(...stepPhases),
});

describe('an injector', () => {
  test('matches exactly the hop of a collective', () => {
    const at = { kind: 'step', step: 10, phase: 'reduce-scatter' } as const;
    expect(matches(kill, { ...at, bucket: 0, hop: 2 })).toBe(true);
    expect(matches(kill, { ...at, bucket: 0, hop: 1 })).toBe(false);
    expect(matches(kill, { ...at, bucket: 1, hop: 2 })).toBe(false);
    expect(matches(kill, { ...at, step: 9, bucket: 0, hop: 2 })).toBe(false);
    expect(matches(kill, { ...at, phase: 'all-gather', bucket: 0, hop: 2 })).toBe(false);
  });

  test('matches the first membership with at least the number of the position', () => {
    const at = { kind: 'membership', phase: 'loading' } as const;
    const first: Fault = { fault: 'hang', tpu: 1, at: { during: 'loading' } };
    const third: Fault = { fault: 'hang', tpu: 1, at: { during: 'loading', generation: 3 } };
    expect(matches(first, { ...at, generation: 1 })).toBe(true);
    expect(matches(third, { ...at, generation: 2 })).toBe(false);
    expect(matches(third, { ...at, generation: 3 })).toBe(true);
    expect(matches(third, { ...at, generation: 4 })).toBe(true);
    expect(matches(third, { ...at, phase: 'joining', generation: 3 })).toBe(false);
  });

  test('injects each fault once, though steps run again and workers are replaced', () => {
    const positions = fc.array(
      fc.record({ step: fc.integer({ min: 1, max: 4 }), phase: fc.constantFrom(...stepPhases) }),
      { maxLength: 8 },
    );
    fc.assert(
      fc.property(
        positions,
        fc.array(points),
        fc.integer({ min: 1, max: 9 }),
        (ats, run, lives) => {
          const faults = ats.map((at, index) => ({ index, fault: throwing(at) }));
          const ledger = memoryLedger();
          const injected: number[] = [];
          for (let life = 0; life < lives; life++) {
            const injector = new Injector(faults, ledger);
            for (const point of run)
              injected.push(...injector.reached(point).map((it) => it.index));
          }
          expect(new Set(injected).size).toBe(injected.length);
          for (const { index, fault } of faults) {
            const reached = run.filter((point) => matches(fault, point)).length * lives;
            const before = faults.filter(
              (it) => it.index < index && sameAt(it.fault, fault),
            ).length;
            expect(injected.includes(index)).toBe(reached > before);
          }
        },
      ),
    );
  });

  test('lets the second of two equal faults wait until the point is reached again', () => {
    const at = { kind: 'step', step: 3, phase: 'update' } as const;
    const flip: Fault = {
      fault: 'flip-bit',
      in: 'weights',
      tpu: 1,
      at: { step: 3, phase: 'update' },
    };
    const injector = new Injector(
      [0, 1].map((index) => ({ index, fault: flip })),
      memoryLedger(),
    );
    expect(injector.reached(at).map(({ index }) => index)).toEqual([0]);
    expect(injector.reached(at).map(({ index }) => index)).toEqual([1]);
    expect(injector.reached(at)).toEqual([]);
  });

  test('records a fault before it takes effect', () => {
    const ledger = memoryLedger();
    const injector = new Injector([{ index: 4, fault: kill }], ledger);
    expect(injector.isDone).toBe(false);
    const due = injector.reached({
      ...{ kind: 'step', step: 10, phase: 'reduce-scatter', bucket: 0, hop: 2 },
    });
    expect(due).toEqual([{ index: 4, fault: kill }]);
    expect(ledger.has(4)).toBe(true);
    expect(injector.isDone).toBe(true);
  });
});

function throwing(at: { readonly step: number; readonly phase: StepPhase }): Fault {
  return { fault: 'throw', tpu: 0, at };
}

function sameAt(a: Fault, b: Fault): boolean {
  return JSON.stringify(a.at) === JSON.stringify(b.at);
}
