import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type Case, planOf } from '../../src/fault/case.ts';
import { mistakesIn } from '../../src/fault/check.ts';
import { linkFaults, type Position } from '../../src/fault/plan.ts';
import { printPlan } from '../../src/fault/print.ts';
import { randomCase } from '../../src/fault/random-plan.ts';
import { parsePlan } from '../../src/fault/read.ts';
import { shrink, simplerCases, sizeOf } from '../../src/fault/shrink.ts';
import { factsOf } from './facts.ts';

const seeds = fc.integer({ min: 0, max: 2 ** 32 - 1 });

/** Compares `a` and `b` at the first index at which they differ. True if `a` is smaller there. */
function isSmaller(a: readonly number[], b: readonly number[]): boolean {
  const index = a.findIndex((value, i) => value !== b[i]);
  return index >= 0 && a[index]! < b[index]!;
}

function kindsOf({ faults }: Case): readonly string[] {
  return faults.map(({ fault }) => fault);
}

/** True if a position is in a training step, in step `least` or later. */
function isInTraining(at: Position, least: number): boolean {
  return 'step' in at && at.phase !== 'evaluate' && at.step >= least;
}

/** Tries the seeds `seed`, `seed` + 1, …. Returns the first random case that `holds` accepts. */
function caseWith(holds: (it: Case) => boolean, seed = 0): Case {
  for (let next = seed; ; next++) if (holds(randomCase(next))) return randomCase(next);
}

describe('a simpler case', () => {
  test('is smaller, so that shrinking ends', () => {
    fc.assert(
      fc.property(seeds, (seed) => {
        const it = randomCase(seed);
        for (const simpler of simplerCases(it)) {
          expect([simpler, isSmaller(sizeOf(simpler), sizeOf(it))]).toEqual([simpler, true]);
        }
      }),
      { numRuns: 100 },
    );
  });

  test('has a text that can be read', () => {
    const simpler = [...simplerCases(randomCase(3))].filter((_, index) => index % 3 === 0);
    for (const it of simpler) {
      const plan = planOf(it, 'sim');
      expect(parsePlan(printPlan(plan), 'plan.yaml')).toEqual(plan);
    }
  });

  test('is a right plan', () => {
    fc.assert(
      fc.property(seeds, (seed) => {
        for (const simpler of simplerCases(randomCase(seed))) {
          const plan = planOf(simpler, 'sim');
          expect(mistakesIn(plan, factsOf(simpler.run))).toEqual([]);
        }
      }),
      { numRuns: 60 },
    );
  });

  test('is right also for links and partitions, which move with their Cloud TPUs', () => {
    const run = { ...randomCase(0).run, topology: { columns: 4, rows: 3 }, steps: 4 };
    const links = linkFaults.map((fault) => {
      return { fault, link: [3, 0], at: { step: 2 }, for: { steps: 1 } } as const;
    });
    const groups = [
      [0, 1, 2, 3, 4, 5, 6, 7, 8],
      [9, 10, 11],
    ];
    const faults = [...links, { fault: 'partition', groups, at: { step: 2 } }] as const;
    const facts = { steps: 4, evaluationSteps: 3, checkpointEvery: 2, cores: 8 };
    const kinds = new Set<string>();
    for (const { run: simpler, faults: moved } of simplerCases({ run, faults, outcome: 'done' })) {
      if (moved.length < faults.length) continue;
      const { topology, steps } = simpler;
      const plan = { run: {}, faults: moved, expect: {} };
      expect(mistakesIn(plan, { ...facts, topology, steps })).toEqual([]);
      kinds.add(`${topology.columns}x${topology.rows}`);
    }
    expect([...kinds]).toEqual(expect.arrayContaining(['2x2', '3x2', '4x2', '2x3']));
  });

  test('of a run that must fail keeps its faults', () => {
    const it = caseWith(({ outcome }) => outcome === 'failed');
    for (const simpler of simplerCases(it)) expect(kindsOf(simpler)).toEqual(kindsOf(it));
  });
});

describe('shrinking', () => {
  test('keeps what breaks the invariant, and simplifies all else', async () => {
    const needs = (it: Case): boolean =>
      it.faults.some((fault) => fault.fault === 'pause' && isInTraining(fault.at, 2)) &&
      it.faults.some(({ fault }) => fault === 'hang' || fault === 'kill');
    for (const seed of [0, 1000, 2000]) {
      const start = caseWith((it) => needs(it) && it.outcome === 'done', seed);
      const { smallest } = await shrink(start, async (it) => needs(it));
      const { topology, model, steps, seed: weights, batches, recovery } = smallest.run;
      expect([...kindsOf(smallest)].sort()).toEqual(['kill', 'pause']);
      const pause = smallest.faults.find(({ fault }) => fault === 'pause');
      expect(pause).toMatchObject({ tpu: 0, at: { step: 2 }, for: { ms: 1 } });
      expect({ topology, model, steps, weights, batches, recovery }).toEqual({
        topology: { columns: 2, rows: 2 },
        ...{ model: 'mlp', steps: 2, weights: 0, batches: 1, recovery: 'replace' },
      });
    }
  });

  test('tries no case twice', async () => {
    const seen: string[] = [];
    const start = caseWith(({ faults, outcome }) => faults.length === 6 && outcome === 'done');
    const { tries } = await shrink(start, async (it) => {
      seen.push(JSON.stringify(it));
      return it.faults.length >= 3;
    });
    expect(new Set(seen).size).toBe(seen.length);
    expect(tries).toBe(seen.length);
  });

  test('returns the start if nothing simpler breaks the invariant', async () => {
    const start = randomCase(5);
    expect((await shrink(start, async () => false)).smallest).toBe(start);
  });

  test('does not hide an error of the check', async () => {
    const failing = shrink(randomCase(5), async () => Promise.reject(new Error('no disk')));
    await expect(failing).rejects.toThrow('no disk');
  });
});
