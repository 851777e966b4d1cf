import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Draws, drawableKinds } from '../../src/fault/draw.ts';
import {
  type Fault,
  isDiskFault,
  isInMaster,
  isJoinFault,
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

test('Docker injects faults of masters and cuts off one Cloud TPU, at positions of workers', () => {
  const cut = (groups: readonly (readonly number[])[], lasts = {}): Fault => {
    return { fault: 'partition', groups, at: { step: 2 }, ...lasts } as Fault;
  };
  expect(supported(cut([[0, 1], [2]], { for: { ms: 5 } }), 'containers')).toBe(true);
  expect(
    supported(
      cut([
        [0, 1],
        [2, 3],
      ]),
      'containers',
    ),
  ).toMatch(/two groups, the second of one$/);
  expect(supported(cut([[0], [1], [2]]), 'containers')).toMatch(/two groups, the second of one$/);
  expect(supported(cut([[0, 1], [2]], { for: { steps: 5 } }), 'containers')).toMatch(/in ms$/);
  const masters = ['master-kill', 'master-pause', 'master-cut-off'] as const;
  for (const fault of masters) {
    const at = (position: object): Fault =>
      ({ fault, at: position, for: { ms: 5 } }) as unknown as Fault;
    for (const phase of workerPhases) {
      expect(supported(at({ step: 2, phase }), 'containers')).toBe(true);
    }
    expect(supported(at({ step: 2, phase: 'commit' }), 'containers')).toMatch(/has no probe$/);
    expect(supported(at({ during: 'joining' }), 'containers')).toMatch(/use during: loading$/);
    expect(supported(at({ afterMs: 5 }), 'containers')).toMatch(/logical positions only$/);
  }
});

test('containers inject the faults of workers and links that processes inject', () => {
  fc.assert(
    fc.property(faults, (fault) => {
      const isOther = isMasterFault(fault) || isDiskFault(fault) || isInMaster(fault);
      const isOfDocker = fault.fault === 'partition' || isJoinFault(fault);
      if (isOther || isOfDocker) return;
      expect(supported(fault, 'containers')).toBe(supported(fault, 'processes'));
    }),
  );
});
