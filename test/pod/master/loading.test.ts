import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { anew, Driver, digest, done } from './driver.ts';

describe('a master that continues a run of an ended master', () => {
  const options = {
    ...anew,
    generation: 6,
    steps: [5],
    digests: [digest],
    mustKeepParameters: true,
  };
  const join = (driver: Driver, steps: readonly (number | null)[]): void => {
    steps.forEach((count, tpu) => {
      driver.tell({ kind: 'joined', tpu, generation: 6, steps: count === null ? null : [count] });
      if (count !== null) driver.tell({ kind: 'aborted', tpu, generation: 7 });
    });
  };
  const ready = (driver: Driver, generation = 7): void => {
    driver.state.members.forEach((_, tpu) => {
      driver.tell({ kind: 'ready', tpu, generation, digests: [digest] });
    });
  };

  test('uses parameters from before or after the interrupted step, and restores the others from them', () => {
    const driver = new Driver(3, 'replace', options);
    join(driver, [5, null, 6]);
    ready(driver);
    expect(driver.actions.filter(({ kind }) => kind === 'restore')).toEqual([
      { kind: 'restore', generation: 7, tpu: 1, from: 0 },
    ]);
    driver.give({ kind: 'restored', tpu: 1, generation: 7 });
    expect(driver.state).toMatchObject({ phase: { kind: 'ready' }, steps: [5], committed: [5] });
  });

  test('ignores parameters of any other step and falls back to a checkpoint', () => {
    fc.assert(
      fc.property(fc.array(fc.constantFrom(null, 3, 4, 7), { minLength: 1 }), (steps) => {
        const driver = new Driver(steps.length, 'replace', options);
        join(driver, steps);
        expect(driver.count('rollback')).toBe(1);
        driver.give({ kind: 'rolled-back', generation: 7, steps: [3] });
        ready(driver);
        steps.forEach((_, tpu) => void driver.give({ kind: 'restored', tpu, generation: 7 }));
        for (const step of [3, 4]) {
          expect(driver.state.phase).toMatchObject({ kind: 'stepping', order: { step } });
          steps.forEach((_, tpu) => void driver.tell(done(tpu, step, digest, 7)));
        }
        expect(driver.state.phase.kind).toBe('ready');
        expect(driver.count('repeated')).toBe(2);
        expect(driver.count('commit')).toBe(0);
      }),
    );
  });

  test('falls back to a checkpoint with policies whose programs keep nothing from before a step', () => {
    for (const policy of ['none', 'slice-restart'] as const) {
      const driver = new Driver(2, policy, options);
      join(driver, [5, 5]);
      expect(driver.count('rollback')).toBe(1);
    }
  });

  test('takes the state of the first load if no step was committed', () => {
    const driver = new Driver(2, 'replace', { ...anew, generation: 6 });
    join(driver, [0, null]);
    ready(driver);
    expect(driver.state.phase.kind).toBe('ready');
    expect(driver.count('restore') + driver.count('rollback')).toBe(0);
  });
});
