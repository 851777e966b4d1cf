import { describe, expect, test } from 'vitest';
import { isVacant } from '../../../src/pod/master/master.ts';
import type { FromWorker } from '../../../src/pod/messages.ts';
import { Driver } from './driver.ts';

describe('at the start of a run', () => {
  const joined = (tpu: number): FromWorker => ({ kind: 'joined', tpu, generation: 0, steps: null });
  const sampleAt = (driver: Driver, now: number): void => {
    driver.now = now;
    driver.give({ kind: 'sample', progress: [] });
  };

  test('a worker that dies before it joins is lost at once, with its cause and code', () => {
    const driver = new Driver(2);
    driver.tell(joined(0));
    driver.give({ kind: 'exited', tpu: 1, reason: 'no memory', code: 'out-of-memory' });
    expect(driver.failure()).toEqual({
      kind: 'failed',
      code: 'out-of-memory',
      message: 'Cloud TPU 1 (x 1, y 0), while joining, exited: no memory',
    });
  });

  test('a worker that dies before it joins is replaced, and the others keep their time to start', () => {
    const driver = new Driver(3, 'replace');
    driver.give({ kind: 'exited', tpu: 1, reason: 'no memory' });
    expect(driver.actions).toContainEqual({ kind: 'replace', tpu: 1, isSilent: false });
    driver.now = 100;
    driver.tell(joined(1));
    // At the first start of a run, each worker has 5000 ms to join. So after 3500 ms the master
    // still waits for workers 0 and 2. Only a replacement of a lost worker has just 3000 ms.
    sampleAt(driver, 3500);
    expect(driver.count('adopt')).toBe(0);
    driver.tell(joined(0));
    driver.tell(joined(2));
    expect(driver.state.phase.kind).toBe('loading');
  });

  test('wrong input ends the run at once with any policy, as a replacement would refuse it too', () => {
    const driver = new Driver(2, 'replace').start().begin(0);
    const message = 'the loader failed: /mnist: other contents';
    driver.tell({ kind: 'failed', tpu: 1, generation: 1, code: 'bad-data', message });
    expect(driver.failure()).toMatchObject({
      code: 'bad-data',
      message: `Cloud TPU 1 (x 1, y 0), in step 1 of the training, failed: ${message}`,
    });
  });

  test('a worker that dies again and again before it joins ends the run', () => {
    const driver = new Driver(2, 'replace');
    for (let i = 0; i < 3; i++) driver.give({ kind: 'exited', tpu: 1, reason: 'no memory' });
    expect(driver.failure().message).toBe(
      'Cloud TPU 1 (x 1, y 0), while joining, exited: no memory; it was lost too often',
    );
  });

  test('when no more workers join, those that have joined host the others, except with policy none', () => {
    for (const policy of ['replace', 'none'] as const) {
      const driver = new Driver(4, policy);
      driver.tell(joined(0));
      driver.now = 500;
      driver.tell(joined(2));
      sampleAt(driver, 4400);
      expect(driver.count('adopt')).toBe(0);
      for (let now = 4600; now < 5000; now += 100) {
        sampleAt(driver, now);
        // The worker that hosts an adopted Cloud TPU joins for it at once. The master must not
        // think that a new worker has joined.
        driver.state.members.forEach(({ status, host }, tpu) => {
          if (status === 'absent' && host !== null) driver.tell(joined(tpu));
        });
      }
      const hosts = driver.actions.flatMap((it) => (it.kind === 'adopt' ? [it.host] : []));
      expect(hosts.sort()).toEqual(policy === 'none' ? [] : [0, 2]);
    }
  });

  test('a run that no worker joins ends after the time for the start, with any policy', () => {
    const driver = new Driver(2, 'replace');
    sampleAt(driver, 4900);
    expect(driver.failure().code).toBe('none');
    sampleAt(driver, 5100);
    expect(driver.failure().message).toMatch(/did not start within 5000 ms/);
  });
});

describe('a Cloud TPU without a replacement', () => {
  /** Returns a master that has lost Cloud TPU 1 and has just told Cloud TPU 2 to adopt it. */
  const adopting = (): Driver => {
    const driver = new Driver(3, 'replace').start().skipTo(1).begin(1);
    driver.give({ kind: 'exited', tpu: 1, reason: 'gone' });
    for (const tpu of [0, 2]) driver.tell({ kind: 'aborted', tpu, generation: 2 });
    expect(isVacant(driver.state, 1)).toBe(true);
    driver.now = 3001;
    driver.give({ kind: 'sample', progress: [0, 0, 0] });
    expect(driver.actions.at(-1)).toEqual({ kind: 'adopt', tpu: 1, host: 2 });
    return driver;
  };

  test('is adopted, so that a worker that comes later is a spare', () => {
    const driver = adopting();
    expect(isVacant(driver.state, 1)).toBe(false);
    driver.tell({ kind: 'joined', tpu: 1, generation: 0, steps: null });
    expect(driver.state.phase.kind).toBe('loading');
    const [refused] = driver.tell({ kind: 'joined', tpu: 1, generation: 0, steps: null });
    expect(refused).toMatchObject({ kind: 'refused', reason: 'the membership is closed' });
  });

  test('has an adopter that is lost itself if it does not host it within the time for a start', () => {
    const driver = adopting();
    driver.now += 4900;
    driver.give({ kind: 'sample', progress: [0, 0, 0] });
    expect(driver.state.phase.kind).toBe('joining');
    driver.now += 200;
    const actions = driver.give({ kind: 'sample', progress: [0, 0, 0] });
    const replaced = actions.flatMap((it) => (it.kind === 'replace' ? [it.tpu] : []));
    expect(replaced).toEqual([2, 1]);
    const lost = actions.flatMap((it) => (it.kind === 'note' ? [it.note.cause] : []));
    expect(lost[0]).toBe(
      'Cloud TPU 2 (x 2, y 0) did not host Cloud TPU 1 (x 1, y 0) within 5000 ms',
    );
  });

  test('is lost again together with its adopter, and both may be replaced', () => {
    const driver = adopting();
    driver.tell({ kind: 'joined', tpu: 1, generation: 0, steps: null });
    const actions = driver.give({ kind: 'exited', tpu: 2, reason: 'gone' });
    const replaced = actions.flatMap((it) => (it.kind === 'replace' ? [it.tpu] : []));
    expect(replaced).toEqual([2, 1]);
    expect(driver.state.generation).toBe(3);
    const lost = actions.flatMap((it) => (it.kind === 'note' ? [it.note.cause] : []));
    expect(lost[1]).toMatch(/^Cloud TPU 1 .* is lost with Cloud TPU 2 .*, whose worker hosts it: /);
    for (const tpu of [1, 2]) {
      expect(isVacant(driver.state, tpu)).toBe(true);
      driver.tell({ kind: 'joined', tpu, generation: 0, steps: null });
    }
    driver.tell({ kind: 'aborted', tpu: 0, generation: 3 });
    expect(driver.state.phase.kind).toBe('loading');
  });

  test('and without any adopter is waited for as long as for a start', () => {
    const driver = new Driver(1, 'replace').start().begin(0);
    driver.give({ kind: 'exited', tpu: 0, reason: 'gone' });
    driver.now = 4900;
    driver.give({ kind: 'sample', progress: [0] });
    expect(driver.state.phase.kind).toBe('joining');
    driver.now = 5001;
    driver.give({ kind: 'sample', progress: [0] });
    expect(driver.failure().message).toMatch(/ is lost: no worker joined within 5000 ms$/);
  });
});
