import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  initialMaster,
  isOver,
  isVacant,
  type MasterAction,
  type MasterEvent,
  type MasterOptions,
  type MasterStart,
  type MasterState,
  master,
  type RecoveryPolicy,
  silenceLimit,
} from '../../src/pod/master.ts';
import type { FromWorker, StepOrder } from '../../src/pod/messages.ts';

const digest = '00112233445566aa';
const options = (tpus: number, policy: RecoveryPolicy = 'none'): MasterOptions => ({
  names: Array.from({ length: tpus }, (_, tpu) => `Cloud TPU ${tpu} (x ${tpu}, y 0)`),
  copiesParameters: [false],
  startMsLimit: 5000,
  quietMsLimit: 4000,
  silenceMsLimit: 1200,
  silenceFactor: 4,
  sampleMsLimit: 250,
  recovery: { policy, graceMsLimit: 3000, lossesPerStepMax: 2, lossesPerMinuteMax: 4 },
});

const anew: MasterStart = { generation: 0, steps: [0], digests: [null], isEstablished: false };

/** Drives a master state machine and records all its actions. */
class Driver {
  state: MasterState;
  now = 0;
  readonly actions: MasterAction[] = [];
  constructor(
    tpus: number,
    policy: RecoveryPolicy = 'none',
    start: MasterStart = anew,
    change: Partial<MasterOptions> = {},
  ) {
    this.state = initialMaster({ ...options(tpus, policy), ...change }, 0, start);
  }
  give(event: MasterEvent): readonly MasterAction[] {
    const { state, actions } = master(this.state, event, this.now);
    this.state = state;
    this.actions.push(...actions);
    return actions;
  }
  tell(message: FromWorker): readonly MasterAction[] {
    return this.give({ kind: 'message', message });
  }
  start(): this {
    this.state.members.forEach((_, tpu) => {
      this.tell({ kind: 'joined', tpu, generation: 0, steps: null });
    });
    this.state.members.forEach((_, tpu) => {
      this.tell({ kind: 'ready', tpu, generation: this.state.generation, digests: [digest] });
    });
    return this;
  }
  begin(step: number): this {
    this.give({ kind: 'begin-step', order: { program: 0, step, takeParameters: false } });
    return this;
  }
  /** Runs all steps before `step` to their commits. */
  skipTo(step: number): this {
    for (let before = 0; before < step; before++) {
      this.begin(before);
      this.state.members.forEach((_, tpu) => {
        this.tell(done(tpu, before));
      });
    }
    return this;
  }
  count(kind: MasterAction['kind']): number {
    return this.actions.filter((action) => action.kind === kind).length;
  }
  failure(): { code: string; message: string } {
    const { phase } = this.state;
    return phase.kind === 'failed' ? phase : { code: 'none', message: phase.kind };
  }
}

const done = (tpu: number, step: number, found = digest, generation = 1): FromWorker => ({
  kind: 'step-done',
  generation,
  tpu,
  program: 0,
  step,
  digest: found,
  outfeed: [],
  phaseMs: [],
});

/**
 * Feeds samples to the master in which the progress of Cloud TPU 1 stays the same and that of the
 * others grows, until the run fails with `worker-silent`.
 */
function untilSilent(driver: Driver): void {
  for (let i = 1; !isOver(driver.state); i++) {
    driver.now += 100;
    driver.give({ kind: 'sample', progress: [i, 1, i] });
  }
  expect(driver.failure().code).toBe('worker-silent');
}

const arbitraryMessage = (tpus: number): fc.Arbitrary<FromWorker> => {
  const tpu = fc.nat(tpus - 1);
  const generation = fc.constantFrom(0, 1, 1, 1, 0);
  return fc.oneof(
    {
      weight: 3,
      arbitrary: tpu.map(
        (t): FromWorker => ({ kind: 'joined', tpu: t, generation: 0, steps: null }),
      ),
    },
    {
      weight: 3,
      arbitrary: fc
        .tuple(tpu, generation)
        .map(([t, e]): FromWorker => ({ kind: 'ready', tpu: t, generation: e, digests: [digest] })),
    },
    {
      weight: 6,
      arbitrary: fc.tuple(tpu, fc.nat(2), generation).map(([t, s, e]) => done(t, s, digest, e)),
    },
  );
};

describe('invariants of the master', () => {
  test('for any messages in any order, each step is committed once, in order, with every report', () => {
    fc.assert(
      fc.property(
        fc
          .integer({ min: 1, max: 4 })
          .chain((tpus) =>
            fc.tuple(fc.constant(tpus), fc.array(arbitraryMessage(tpus), { maxLength: 120 })),
          ),
        ([tpus, messages]) => {
          const driver = new Driver(tpus);
          let step = 0;
          let begun = 0;
          for (const message of messages) {
            if (driver.state.phase.kind === 'ready') {
              driver.begin(step++);
              begun++;
            }
            driver.tell(message);
          }
          const commits = driver.actions.filter((action) => action.kind === 'commit');
          const running = driver.state.phase.kind === 'stepping' ? 1 : 0;
          expect(commits.length).toBe(begun - running);
          commits.forEach((action, i) => {
            expect(action.order.step).toBe(i);
            expect(action.reports.map((report) => report.tpu)).toEqual([...Array(tpus).keys()]);
            expect(action.reports.every((report) => report.step === i)).toBe(true);
          });
        },
      ),
    );
  });

  test('a message of an older membership changes nothing', () => {
    fc.assert(
      fc.property(fc.nat(2), fc.nat(4), (tpu, generation) => {
        const driver = new Driver(3, 'none', { ...anew, generation: 4 }).start().begin(0);
        const before = driver.state;
        const actions = driver.tell(done(tpu, 0, digest, generation));
        expect(actions.map((action) => action.kind)).toEqual(['refused']);
        expect(driver.state).toEqual(before);
      }),
    );
  });

  test('a message of a newer generation ends this master, which sends nothing more', () => {
    const newer = fc
      .nat(2)
      .chain((tpu) =>
        fc
          .integer({ min: 6, max: 9 })
          .chain((generation) =>
            fc.constantFrom<FromWorker>(
              { kind: 'joined', tpu, generation, steps: [3] },
              { kind: 'aborted', tpu, generation },
              { kind: 'ready', tpu, generation, digests: [digest] },
              done(tpu, 0, digest, generation),
              { kind: 'accused', tpu, generation, suspect: 0, code: null, message: 'oh' },
              { kind: 'failed', tpu, generation, code: null, message: 'oh' },
            ),
          ),
      );
    fc.assert(
      fc.property(newer, fc.constantFrom('none', 'replace', 'slice-restart'), (message, policy) => {
        const driver = new Driver(3, policy, { ...anew, generation: 4 }).start().begin(0);
        const actions = driver.tell(message);
        expect(actions.map((action) => action.kind)).toEqual(['abort', 'failed']);
        expect(driver.failure()).toEqual({
          kind: 'failed',
          code: 'superseded',
          message: `Cloud TPU ${message.tpu} (x ${message.tpu}, y 0) is in generation ${message.generation}, this master in 5: a newer master leads the run`,
        });
        expect(driver.give({ kind: 'stop' })).toEqual([]);
      }),
    );
  });

  test('a run whose workers make no progress fails within a bounded time', () => {
    fc.assert(
      fc.property(
        fc.array(arbitraryMessage(3), { maxLength: 40 }),
        fc.integer({ min: 20, max: 400 }),
        (messages, everyMs) => {
          const driver = new Driver(3);
          let step = 0;
          for (const message of messages) {
            driver.tell(message);
            if (driver.state.phase.kind === 'ready') driver.begin(step++);
          }
          const progress = [0, 0, 0];
          for (let i = 0; i < 1000 && !isOver(driver.state); i++) {
            driver.now += everyMs;
            driver.give({ kind: 'sample', progress });
          }
          expect(driver.failure().code).toBe('worker-silent');
          expect(driver.count('failed')).toBe(1);
          expect(driver.count('abort')).toBe(1);
        },
      ),
    );
  });

  test('a run that has ended takes no more actions', () => {
    const driver = new Driver(2).start().begin(0);
    driver.give({ kind: 'exited', tpu: 1, reason: 'thread ended' });
    fc.assert(
      fc.property(arbitraryMessage(2), (message) => {
        expect(driver.tell(message)).toEqual([]);
        expect(driver.give({ kind: 'stop' })).toEqual([]);
      }),
    );
  });
});

describe('a failure names the culprit', () => {
  test('a Cloud TPU that exits', () => {
    const driver = new Driver(3).start().skipTo(5).begin(5);
    driver.give({ kind: 'exited', tpu: 1, reason: 'exit code 1' });
    expect(driver.failure()).toMatchObject({
      code: 'worker-exited',
      message: 'Cloud TPU 1 (x 1, y 0), at step 5 of program 0, exited: exit code 1',
    });
  });

  test('a Cloud TPU that throws, with the code of a PodError, or worker-threw for other errors', () => {
    const tell = (code: string | null): string => {
      const driver = new Driver(2).start().begin(0);
      driver.tell({ kind: 'failed', tpu: 1, generation: 1, code, message: 'oh' });
      return driver.failure().code;
    };
    expect(tell('link-timeout')).toBe('link-timeout');
    expect(tell(null)).toBe('worker-threw');
    expect(tell('toString')).toBe('worker-threw');
  });

  test('a silent Cloud TPU, within two seconds, and not those that wait for it', () => {
    const driver = new Driver(3).start().skipTo(1).begin(1);
    untilSilent(driver);
    expect(driver.failure().message).toMatch(/^Cloud TPU 1 \(x 1, y 0\), at step 1 /);
    expect(driver.now).toBeLessThanOrEqual(2000);
  });

  test('Cloud TPUs that fall silent together are lost together, and their adopters share them evenly', () => {
    const driver = new Driver(8, 'replace').start().skipTo(1).begin(1);
    const isDead = (tpu: number): boolean => tpu % 2 === 1;
    const sample = (i: number): void => {
      driver.now += 200;
      // Half of the dead Cloud TPUs make their last progress one sample later than the other half.
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
     * Feeds samples to the master until a Cloud TPU is lost. Only the progress of Cloud TPUs 0 and
     * 2 grows. If `heartbeats` is true, the samples also have heartbeats, of which only that of
     * Cloud TPU 0 grows. Returns the lost Cloud TPUs.
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
      expect(driver.actions).toContainEqual({ kind: 'replace', tpu: 1 });
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

  test('a Cloud TPU that is silent before the first step is done, with a limit eight times as long', () => {
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

  test('a failed service that all Cloud TPUs share, such as the data loader', () => {
    const driver = new Driver(2).start().begin(0);
    const who = 'the data loader';
    driver.give({ kind: 'service-failed', who, code: 'bad-data', message: 'labels: too short' });
    expect(driver.failure()).toMatchObject({
      code: 'bad-data',
      message: 'the data loader failed: labels: too short',
    });
  });

  test('Cloud TPUs whose weights differ from the majority', () => {
    const driver = new Driver(3).start().skipTo(2).begin(2);
    driver.tell(done(0, 2));
    driver.tell(done(1, 2, 'ffffffffffffffff'));
    driver.tell(done(2, 2));
    expect(driver.failure()).toMatchObject({
      code: 'digest-mismatch',
      message:
        'step 2 of program 0 differs: Cloud TPU 1 (x 1, y 0) ended with weights ffffffffffffffff; 2 others have 00112233445566aa',
    });
    expect(driver.count('commit')).toBe(2);
  });

  test('Cloud TPUs that never start', () => {
    const driver = new Driver(3, 'none');
    driver.tell({ kind: 'joined', tpu: 1, generation: 0, steps: null });
    driver.now = 5001;
    driver.give({ kind: 'sample', progress: [] });
    expect(driver.failure().message).toBe(
      'Cloud TPU 0 (x 0, y 0), Cloud TPU 2 (x 2, y 0) did not start within 5000 ms',
    );
  });
});

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
    expect(driver.actions).toContainEqual({ kind: 'replace', tpu: 1 });
    driver.now = 100;
    driver.tell(joined(1));
    // A replacement would have 3000 ms to join, but at the first start every worker has 5000 ms.
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
      message: `Cloud TPU 1 (x 1, y 0), at step 0 of program 0, failed: ${message}`,
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
        // An adopted Cloud TPU joins at once. The master must not count it as a replacement that
        // has joined.
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

test('a step is ordered, reported by every worker, and committed', () => {
  const driver = new Driver(2).start();
  expect(driver.count('ready')).toBe(1);
  const order: StepOrder = { program: 0, step: 0, takeParameters: false };
  expect(driver.give({ kind: 'begin-step', order }).map((it) => it.kind)).toEqual(['send', 'send']);
  driver.tell(done(1, 0));
  expect(driver.count('commit')).toBe(0);
  driver.tell(done(1, 0));
  expect(driver.count('refused')).toBe(1);
  driver.tell(done(0, 0));
  expect(driver.count('commit')).toBe(1);
  driver.give({ kind: 'stop' });
  expect(driver.state.phase.kind).toBe('done');
});

describe('a master that continues a run of an ended master', () => {
  const options = { ...anew, generation: 6, steps: [5], digests: [digest], isEstablished: true };
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
