import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { isOver } from '../../../src/pod/master/master.ts';
import type { FromWorker, StepOrder } from '../../../src/pod/messages.ts';
import { anew, arbitraryMessage, Driver, digest, done } from './driver.ts';

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
