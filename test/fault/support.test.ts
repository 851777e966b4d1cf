import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Draws, drawableKinds } from '../../src/fault/draw.ts';
import {
  type Fault,
  isDiskFault,
  isInMaster,
  isMasterFault,
  workerPhases,
} from '../../src/fault/plan.ts';
import { allPhases, positionIn } from '../../src/fault/random-plan.ts';
import { supported } from '../../src/fault/support.ts';
import { mulberry32 } from '../../src/numerics/generator.ts';

/** Arbitrary faults that a random plan may contain. Some kinds of pods can inject only some. */
const faults: fc.Arbitrary<Fault> = fc
  .record({
    kind: fc.constantFrom(...drawableKinds),
    phase: fc.constantFrom(...allPhases),
    seed: fc.nat(),
  })
  .map(({ kind, phase, seed }) => {
    const place = { grid: { columns: 4, rows: 2 }, tpu: 3, at: positionIn(phase, 2) };
    return kind.draw(place, new Draws(mulberry32(seed)));
  });

test('the simulation injects faults of masters and disks in every phase, others in no phase of the master', () => {
  fc.assert(
    fc.property(faults, (fault) => {
      const found = supported(fault, 'sim');
      if (isMasterFault(fault) || isDiskFault(fault)) expect(found).toBe(true);
      else if (isInMaster(fault)) expect(found).toMatch(/^no worker takes part in the phase /);
    }),
  );
});

test('pods of threads and processes inject no faults of masters and disks', () => {
  fc.assert(
    fc.property(faults, fc.constantFrom('threads', 'processes'), (fault, ground) => {
      if (isMasterFault(fault) || isDiskFault(fault)) {
        expect(supported(fault, ground)).not.toBe(true);
      }
    }),
  );
});

test('a fault that stops all steps cannot last for a number of steps', () => {
  for (const fault of ['master-pause', 'master-cut-off', 'disk-full'] as const) {
    for (const phase of workerPhases) {
      const stop = (lasts: object): Fault =>
        ({ fault, at: { step: 2, phase }, for: lasts }) as Fault;
      expect(supported(stop({ ms: 5 }), 'sim')).toBe(true);
      expect(supported(stop({ steps: 5 }), 'sim')).toMatch(/^no step is committed meanwhile/);
    }
  }
});
