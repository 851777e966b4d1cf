import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { waitMsLimits } from '../../cluster/limits.ts';
import { progressMsLimit } from '../../src/fault/case.ts';
import { mistakesIn } from '../../src/fault/check.ts';
import { kindNameOf } from '../../src/fault/draw.ts';
import { mustRecover, reasonNotDrawn } from '../../src/fault/fair.ts';
import { type Fault, type Ground, targetsOf } from '../../src/fault/plan.ts';
import { printPlan } from '../../src/fault/print.ts';
import { randomCase, randomPlan, searchShape, shapeOn } from '../../src/fault/random-plan.ts';
import { parsePlan } from '../../src/fault/read.ts';
import { supported } from '../../src/fault/support.ts';
import { factsOf } from './facts.ts';

const seeds = fc.integer({ min: 0, max: 2 ** 32 - 1 });
const comments = fc.oneof(fc.string(), fc.constant('two\nlines: 1'));
const grid = { columns: 2, rows: 2 };

describe('a random plan', () => {
  test('is right: its run reaches each position, and a simulation can inject each fault', () => {
    fc.assert(
      fc.property(seeds, (seed) => {
        const { run, faults } = randomCase(seed);
        expect(mistakesIn(randomPlan(seed), factsOf(run))).toEqual([]);
        expect(faults.map((fault) => supported(fault, 'sim'))).toEqual(faults.map(() => true));
        expect(faults.map(reasonNotDrawn)).toEqual(faults.map(() => undefined));
        expect(faults.length).toBeGreaterThan(0);
        expect(faults.length).toBeLessThanOrEqual(searchShape.faultsMax);
      }),
      { numRuns: 150 },
    );
  });

  test.each(['threads', 'processes', 'containers'] as const)('is right in %s too', (ground) => {
    const shape = shapeOn(ground);
    fc.assert(
      fc.property(seeds, (seed) => {
        const { run, faults } = randomCase(seed, shape);
        expect(mistakesIn(randomPlan(seed, shape), factsOf(run))).toEqual([]);
        expect(faults.map((fault) => supported(fault, ground))).toEqual(faults.map(() => true));
      }),
      { numRuns: 150 },
    );
  });

  test('has faults of links and joins in processes, and of masters in containers', () => {
    const drawn = (ground: Ground): readonly string[] =>
      Array.from({ length: 300 }, (_, seed) => randomCase(seed, shapeOn(ground)).faults)
        .flat()
        .map(({ fault }) => fault);
    expect(drawn('processes')).toEqual(expect.arrayContaining(['corrupt', 'delay', 'join-twice']));
    expect(drawn('containers')).toEqual(expect.arrayContaining(['master-kill', 'partition']));
  });

  test('is explicit: it has the same meaning when its text is read again', () => {
    fc.assert(
      fc.property(seeds, comments, (seed, comment) => {
        const plan = randomPlan(seed);
        expect(plan.chance).toBeUndefined();
        expect(randomPlan(seed)).toEqual(plan);
        expect(parsePlan(printPlan(plan, [comment]), 'plan.yaml')).toEqual(plan);
      }),
      { numRuns: 40 },
    );
  });

  test('expects a run that recovers only if the run must recover', () => {
    fc.assert(
      fc.property(seeds, (seed) => {
        const { run, faults, outcome } = randomCase(seed);
        const isFair = mustRecover(faults, run.topology, searchShape);
        expect(run.recovery === 'none' || !isFair).toBe(outcome === 'failed');
      }),
      { numRuns: 300 },
    );
  });

  const cases = Array.from({ length: 1000 }, (_, seed) => randomCase(seed));

  test('has faults of all kinds that a simulation can inject', () => {
    const drawn = new Set(cases.flatMap(({ faults }) => faults.map(kindNameOf)));
    const expected = ['kill', 'exit', 'throw', 'out-of-memory', 'hang', 'pause', 'slow'];
    const memories = ['flip-bit in weights', 'flip-bit in reduce-buffer'];
    expect([...drawn]).toEqual(expect.arrayContaining([...expected, ...memories, 'lose-row']));
  });

  test('often has faults that meet: the same target, the same step, all Cloud TPUs', () => {
    const shareOf = (holds: (it: (typeof cases)[number]) => boolean): number =>
      cases.filter(holds).length / cases.length;
    const hits = (it: (typeof cases)[number]): readonly number[] =>
      it.faults.flatMap((fault) => targetsOf(fault, it.run.topology));
    const stepsOf = (faults: readonly Fault[]): readonly number[] =>
      faults.flatMap(({ at }) => ('step' in at ? [at.step] : []));
    expect(shareOf((it) => new Set(hits(it)).size < hits(it).length)).toBeGreaterThan(0.3);
    expect(
      shareOf(({ faults }) => new Set(stepsOf(faults)).size < stepsOf(faults).length),
    ).toBeGreaterThan(0.3);
    expect(
      shareOf((it) => {
        const { columns, rows } = it.run.topology;
        return new Set(hits(it)).size === columns * rows;
      }),
    ).toBeGreaterThan(0.05);
    expect(shareOf(({ outcome }) => outcome === 'failed')).toBeLessThan(0.1);
  });
});

describe('a run must recover', () => {
  const kill = (tpu: number): Fault => ({ fault: 'kill', tpu, at: { step: 2 } });
  const flip = (tpu: number, step: number): Fault => {
    return { fault: 'flip-bit', in: 'weights', tpu, at: { step } };
  };
  const hang = (tpu: number): Fault => ({ fault: 'hang', tpu, at: { during: 'joining' } });
  const damage = (ms: number): Fault => {
    return { fault: 'corrupt', link: [0, 1], at: { step: 2 }, for: { ms }, share: 1 };
  };
  const row: Fault = { fault: 'lose-row', row: 0, at: { step: 2 } };
  const many = [0, 1, 2, 3, 4];
  const rightOnes: readonly (readonly Fault[])[] = [
    [],
    many.map(() => kill(1)),
    [...many.map(() => kill(1)), ...many.map(() => kill(0))],
    [flip(0, 1), flip(1, 2)],
    [hang(0), hang(1), hang(2)],
    [damage(200), kill(0), kill(1)],
  ];
  const wrongOnes: readonly (readonly Fault[])[] = [
    [...many, 5].map(() => kill(1)),
    [...many.map(() => kill(1)), row],
    [flip(0, 1), flip(1, 1)],
    [flip(0, 1), { fault: 'flip-bit', in: 'weights', tpu: 0, at: { during: 'loading' } }],
    [hang(0), hang(1), hang(2), hang(3)],
    [damage(201)],
    [damage(200), damage(100)],
  ];

  test.each(rightOnes.map((faults) => [faults]))('from %j', (faults) => {
    expect(mustRecover(faults, grid, { ground: 'sim', lossesMax: 5 })).toBe(true);
  });

  test.each(wrongOnes.map((faults) => [faults]))('but not from %j', (faults) => {
    expect(mustRecover(faults, grid, { ground: 'sim', lossesMax: 5 })).toBe(false);
  });

  test.each([
    ['sim', 400],
    ['threads', 400],
    ['processes', 5],
    ['containers', 5],
  ] as const)('in %s from a Cloud TPU that is slow by %i at most', (ground, most) => {
    const slowBy = (factor: number): boolean =>
      mustRecover([{ fault: 'slow', tpu: 0, at: { step: 2 }, factor }], grid, {
        ground,
        lossesMax: 5,
      });
    expect(slowBy(most)).toBe(true);
    if (most < 400) expect(slowBy(20)).toBe(false);
  });

  test('in a time that grows with each fault, and with the length of a pause', () => {
    const pause: Fault = { fault: 'pause', tpu: 1, at: { step: 2 }, for: { ms: 4000 } };
    const [one, two] = [kill(1), kill(2)];
    for (const ground of ['sim', 'threads'] as const) {
      const limit = progressMsLimit([one], ground);
      expect(progressMsLimit([one, two], ground)).toBeGreaterThan(limit);
      expect(progressMsLimit([pause], ground)).toBe(limit + 20_000);
    }
  });

  test('in a shorter time, if times are virtual and no worker waits in a membership', () => {
    const inMembership: Fault = { fault: 'kill', tpu: 1, at: { during: 'loading' } };
    const inVirtualTime = progressMsLimit([kill(1)], 'sim');
    expect(inVirtualTime).toBeLessThan(progressMsLimit([kill(1)], 'threads'));
    expect(inVirtualTime).toBeLessThan(progressMsLimit([inMembership], 'sim'));
    expect(inVirtualTime).toBeLessThan(waitMsLimits.fast);
  });
});
