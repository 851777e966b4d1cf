import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type SimulatedRun, simulateRun } from '../../../cluster/simulated/run.ts';
import {
  type Fault,
  membershipPhases,
  type Position,
  stepPhases,
} from '../../../src/fault/plan.ts';
import { scheduleOf } from '../../../src/fault/schedule.ts';
import { digestsOf } from './outcomes.ts';

const steps = 6;
const phases = stepPhases.filter((it) => !['commit', 'checkpoint', 'evaluate'].includes(it));

const positions: fc.Arbitrary<Position> = fc.oneof(
  {
    weight: 5,
    arbitrary: fc
      .record({
        step: fc.integer({ min: 1, max: steps }),
        phase: fc.constantFrom(...phases),
        hop: fc.nat(3),
      })
      .map(({ step, phase, hop }) =>
        ['reduce-scatter', 'all-reduce', 'all-gather'].includes(phase)
          ? { step, phase, hop }
          : { step, phase },
      ),
  },
  fc.record({ step: fc.integer({ min: 1, max: 2 }), phase: fc.constant('evaluate' as const) }),
  {
    weight: 1,
    arbitrary: fc.record({
      during: fc.constantFrom(...membershipPhases),
      generation: fc.integer({ min: 1, max: 4 }),
    }),
  },
);

function faultOf(columns: number, rows: number): fc.Arbitrary<Fault> {
  const target = { tpu: fc.nat(columns * rows - 1), at: positions };
  const ends = fc.constantFrom('kill', 'exit', 'throw', 'out-of-memory', 'hang');
  const flipAt = fc.record({
    step: fc.integer({ min: 1, max: steps }),
    phase: fc.constantFrom('infeed', 'compute', 'update', 'outfeed'),
  });
  return fc.oneof(
    { weight: 5, arbitrary: fc.record({ fault: ends, ...target }) },
    fc.record({
      ...{ fault: fc.constant('pause' as const), ...target },
      for: fc.record({ ms: fc.integer({ min: 1, max: 4000 }) }),
    }),
    fc.record({
      ...{ fault: fc.constant('slow' as const), ...target },
      factor: fc.integer({ min: 2, max: 400 }),
      for: fc.record({ steps: fc.integer({ min: 1, max: 3 }) }),
    }),
    {
      weight: 2,
      arbitrary: fc.record({
        ...{ fault: fc.constant('flip-bit' as const), tpu: target.tpu, at: flipAt },
        in: fc.constantFrom('weights', 'reduce-buffer'),
        bit: fc.nat(31),
      }),
    },
    fc.record({ fault: fc.constant('lose-row' as const), row: fc.nat(rows - 1), at: positions }),
    fc.record({
      ...{ fault: fc.constant('lose-column' as const), column: fc.nat(columns - 1) },
      at: positions,
    }),
  ) as fc.Arbitrary<Fault>;
}

/**
 * Times, in microseconds, that a message, a frame and the replacement of a Cloud TPU take. Some are
 * short, some very long.
 */
const times = fc.record({
  message: fc.record({ least: fc.constant(1), spread: fc.constantFrom(100, 5000, 100_000) }),
  frame: fc.record({ least: fc.constant(1), spread: fc.constantFrom(20, 1000, 20_000) }),
  replace: fc.record({ least: fc.constant(1), spread: fc.constantFrom(1000, 20_000_000) }),
});

const runs: fc.Arbitrary<SimulatedRun> = fc
  .record({ columns: fc.integer({ min: 1, max: 4 }), rows: fc.integer({ min: 1, max: 4 }) })
  .filter(({ columns, rows }) => columns * rows > 1)
  .chain((topology) =>
    fc
      .record({
        topology: fc.constant(topology),
        steps: fc.constant(steps),
        evaluationSteps: fc.constant(2),
        times,
        seed: fc.nat(),
        checkpointEvery: fc.constantFrom(2, 100),
        faults: fc.array(faultOf(topology.columns, topology.rows), { maxLength: 10 }),
      })
      .map(scheduled),
  )
  .filter(canRecover);

/** Replaces the loss of a row or column by one `kill` for each Cloud TPU of the row or column. */
function scheduled({ faults = [], ...run }: SimulatedRun): SimulatedRun {
  const plan = { run: {}, faults, expect: {} };
  return { ...run, faults: scheduleOf(plan, run.topology, steps).map(({ fault }) => fault) };
}

/**
 * True if the faults of a run keep two limits. Within these limits the run always recovers.
 *
 * - At most five faults for each Cloud TPU. The master ends a run that loses the same Cloud TPU
 *   more than five times in one step. All faults of a Cloud TPU can take effect in one step,
 *   because the step runs again after each fault.
 * - At most one flipped bit in each step. With two flipped bits, the right digest may have no
 *   majority, or all Cloud TPUs may have the same wrong digest.
 */
function canRecover({ faults = [], topology }: SimulatedRun): boolean {
  const tpus = Array.from({ length: topology.columns * topology.rows }, (_, tpu) => tpu);
  const flips = faults.flatMap(({ fault, at }) =>
    fault === 'flip-bit' && 'step' in at ? [at.step] : [],
  );
  return (
    new Set(flips).size === flips.length &&
    tpus.every((tpu) => faults.filter((it) => 'tpu' in it && it.tpu === tpu).length <= 5)
  );
}

test('a run with any of these plans ends with the weights of the undisturbed run', async () => {
  await fc.assert(
    fc.asyncProperty(runs, async (run) => {
      const { observation, evaluation } = await simulateRun(run);
      const undisturbed = await simulateRun({ ...run, faults: [] });
      expect(observation.message).toBe('');
      expect(observation.commits.map(({ step }) => step)).toEqual([1, 2, 3, 4, 5, 6]);
      expect(digestsOf({ observation })).toEqual(digestsOf(undisturbed));
      expect(evaluation.map(({ loss }) => loss)).toEqual(
        undisturbed.evaluation.map(({ loss }) => loss),
      );
    }),
    { numRuns: 60 },
  );
}, 300_000);
