import { describe, expect, test } from 'vitest';
import { silenceLimit } from '../../../src/pod/master/failure-detector.ts';
import { anew, Driver, done, untilSilent } from './driver.ts';

describe('the failure detector', () => {
  test('a silent Cloud TPU is lost within two seconds, and those that wait for it are not', () => {
    const driver = new Driver(3).start().skipTo(1).begin(1);
    untilSilent(driver);
    expect(driver.failure().message).toMatch(
      /^Cloud TPU 1 \(x 1, y 0\), in step 2 of the training, /,
    );
    expect(driver.now).toBeLessThanOrEqual(2000);
  });

  test('Cloud TPUs that fall silent together are lost together, and their adopters share them evenly', () => {
    const driver = new Driver(8, 'replace').start().skipTo(1).begin(1);
    const isDead = (tpu: number): boolean => tpu % 2 === 1;
    const sample = (i: number): void => {
      driver.now += 200;
      // Cloud TPUs 1, 3, 5 and 7 are dead. The progress counters of 1 and 5 grow once, in the
      // second sample. Those of 3 and 7 never grow.
      const last = (tpu: number): number => (tpu % 4 === 1 && i > 0 ? 1 : 0);
      const progress = driver.state.members.map((_, tpu) => (isDead(tpu) ? last(tpu) : i));
      driver.give({ kind: 'sample', progress });
    };
    let i = 0;
    for (; driver.count('replace') === 0; i++) sample(i);
    expect(driver.now).toBeLessThanOrEqual(2000);
    const replaced = driver.actions.flatMap((it) => (it.kind === 'replace' ? [it.tpu] : []));
    expect(replaced.sort()).toEqual([1, 3, 5, 7]);
    expect(driver.state.generation).toBe(2);
    for (const tpu of [0, 2, 4, 6]) driver.tell({ kind: 'aborted', tpu, generation: 2 });
    for (const end = i + 30; i < end; i++) sample(i);
    const hosts = driver.actions.flatMap((it) => (it.kind === 'adopt' ? [it.host] : []));
    expect(hosts.sort()).toEqual([0, 2, 4, 6]);
  });

  describe('with heartbeats of processes', () => {
    const patient = { startMsLimit: 20_000 };
    const paced = (): Driver => new Driver(3, 'replace', anew, patient).start().skipTo(1);
    /**
     * Gives samples to the master until a Cloud TPU is lost. Returns the lost Cloud TPUs. A sample
     * has a progress counter for each Cloud TPU. Those of Cloud TPUs 0 and 2 grow from sample to
     * sample. If `heartbeats` is true, a sample also has a heartbeat counter for each Cloud TPU. Of
     * these, only that of Cloud TPU 0 grows.
     */
    const sampleUntilLost = (driver: Driver, heartbeats = true): readonly number[] => {
      for (let i = 1; driver.count('replace') === 0 && i < 100; i++) {
        driver.now += 200;
        const heard = heartbeats ? { heartbeats: [i, 1, 1] } : {};
        driver.give({ kind: 'sample', progress: [i, 1, i], ...heard });
      }
      const lost = driver.actions.flatMap((it) => (it.kind === 'replace' ? [it.tpu] : []));
      return lost.sort();
    };

    test('a Cloud TPU that has done its step is lost within two seconds if its heartbeats stop', () => {
      for (const [heartbeats, lost] of [[true, [1, 2]] as const, [false, [1]] as const]) {
        const driver = paced().begin(1);
        driver.tell(done(2, 1));
        driver.tell(done(0, 1));
        const before = driver.now;
        expect(sampleUntilLost(driver, heartbeats)).toEqual(lost);
        expect(driver.now - before).toBeLessThanOrEqual(2000);
      }
    });

    test('heartbeats do not replace progress while a Cloud TPU has a step to do', () => {
      const driver = paced().begin(1);
      for (let i = 1; driver.count('replace') === 0 && i < 100; i++) {
        driver.now += 200;
        driver.give({ kind: 'sample', progress: [i, 1, i], heartbeats: [i, i, i] });
      }
      expect(driver.actions).toContainEqual({ kind: 'replace', tpu: 1, isSilent: true });
    });

    test.each(['loading', 'ready'] as const)('while %s, at 8 times the limit', (phase) => {
      const driver = paced();
      if (phase === 'loading') {
        driver.give({ kind: 'exited', tpu: 0, reason: 'exit code 1' });
        for (const tpu of [1, 2]) driver.tell({ kind: 'aborted', tpu, generation: 2 });
        driver.tell({ kind: 'joined', tpu: 0, generation: 0, steps: null });
      }
      driver.actions.length = 0;
      expect(driver.state.phase.kind).toBe(phase);
      const before = driver.now;
      expect(sampleUntilLost(driver)).toEqual([1, 2]);
      expect(driver.now - before).toBeGreaterThan(8 * 1200);
      expect(driver.now - before).toBeLessThanOrEqual(8 * 1200 + 800);
    });

    test('no Cloud TPU is lost before a step has shown how fast the machine is', () => {
      expect(sampleUntilLost(new Driver(3, 'replace').start())).toEqual([]);
    });
  });

  test('before the first step is done, a silent Cloud TPU is lost after a limit eight times as long', () => {
    const driver = new Driver(3).start().begin(0);
    untilSilent(driver);
    expect(driver.now).toBeGreaterThan(8 * 1200);
    expect(driver.now).toBeLessThanOrEqual(8 * 1200 + 400);
  });

  test('a Cloud TPU that has done its step and waits for the others is not silent', () => {
    const driver = new Driver(2).start().begin(0);
    driver.tell(done(0, 0));
    for (let i = 1; i < 100; i++) {
      driver.now += 100;
      driver.give({ kind: 'sample', progress: [0, i] });
    }
    expect(driver.state.phase.kind).toBe('stepping');
  });

  test('a long pause of progress raises the limit for the next; a delayed master counts one sample', () => {
    const driver = new Driver(1).start().begin(0);
    driver.now = 60_000;
    driver.give({ kind: 'sample', progress: [0] });
    expect(driver.state.phase.kind).toBe('stepping');
    for (let i = 0; i < 8; i++) {
      driver.now += 100;
      driver.give({ kind: 'sample', progress: [0] });
    }
    driver.give({ kind: 'sample', progress: [1] });
    expect(silenceLimit(driver.state)).toBe(8 * 1200);
    driver.tell(done(0, 0));
    const limitMs = silenceLimit(driver.state);
    expect(limitMs).toBeGreaterThan(0.9 * 4 * 1050);
    expect(limitMs).toBeLessThanOrEqual(4 * 1050);
    // After many steps without a long pause, the silence limit falls to its minimum again.
    for (let step = 1; step < 60; step++) driver.begin(step).tell(done(0, step));
    expect(silenceLimit(driver.state)).toBe(1200);
  });
});
