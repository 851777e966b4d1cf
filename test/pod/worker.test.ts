import fc from 'fast-check';
import { expect, test } from 'vitest';
import { master } from '../../src/pod/master/master.ts';
import { initialMaster, type MasterState } from '../../src/pod/master/state.ts';
import {
  checkFromWorker,
  checkToWorker,
  type FromWorker,
  type ToWorker,
} from '../../src/pod/messages.ts';
import {
  hasParametersAfter,
  initialWorker,
  type WorkerEvent,
  type WorkerState,
  worker,
} from '../../src/pod/worker.ts';

const arbitraryOrder: fc.Arbitrary<ToWorker> = fc.oneof(
  fc
    .tuple(fc.nat(3), fc.nat(1))
    .map(([generation, step]): ToWorker => ({ kind: 'load', generation, steps: [step] })),
  fc.nat(3).map((generation): ToWorker => ({ kind: 'abort', generation })),
  fc.tuple(fc.nat(3), fc.nat(2)).map(([generation, step]): ToWorker => {
    return { kind: 'start-step', generation, program: 0, step, takeParameters: false };
  }),
);
const arbitraryEvent: fc.Arbitrary<WorkerEvent> = fc.oneof(
  {
    weight: 4,
    arbitrary: arbitraryOrder.map((message): WorkerEvent => ({ kind: 'message', message })),
  },
  { weight: 2, arbitrary: fc.constant<WorkerEvent>({ kind: 'loaded', digests: [] }) },
  { weight: 1, arbitrary: fc.constant<WorkerEvent>({ kind: 'interrupted' }) },
  { weight: 1, arbitrary: fc.constant<WorkerEvent>({ kind: 'started' }) },
  {
    weight: 2,
    arbitrary: fc.constant<WorkerEvent>({
      kind: 'ran',
      report: { digest: '0'.repeat(16), outfeed: [], phaseMs: [], linkWaitMs: [] },
    }),
  },
);

test('a worker runs only the next step of its loaded membership, and one step at a time', () => {
  fc.assert(
    fc.property(fc.array(arbitraryEvent, { maxLength: 60 }), (events) => {
      let state: WorkerState = initialWorker(0, [false]);
      let generation = 0;
      let loaded = 0;
      let following = 0;
      let isRunning = false;
      for (const event of events) {
        const before = state.phase.kind;
        const next = worker(state, event);
        for (const action of next.actions) {
          if (action.kind === 'send') checkFromWorker(action.message);
          if (action.kind === 'load') {
            expect(action.generation).toBeGreaterThan(loaded);
            loaded = action.generation;
            following = action.steps[0]!;
            expect(isRunning).toBe(false);
          }
          if (action.kind !== 'run') continue;
          expect(before).toBe('idle');
          expect(isRunning).toBe(false);
          isRunning = true;
          expect(event.kind === 'message' && event.message.generation).toBe(next.state.generation);
          expect(next.state.generation).toBe(loaded);
          expect(action.order.step).toBe(following);
        }
        if (event.kind === 'ran' && isRunning) {
          if (next.state.phase.kind === 'idle') following++;
          isRunning = false;
        }
        if (event.kind === 'interrupted') isRunning = false;
        expect(next.state.generation).toBeGreaterThanOrEqual(generation);
        generation = next.state.generation;
        state = next.state;
      }
    }),
    // Few random sequences of messages make a worker run a step. So many sequences are needed.
    { numRuns: 3000 },
  );
});

test('a step order that arrives again, during the step or after it, runs the step once', () => {
  const order: ToWorker = {
    kind: 'start-step',
    generation: 1,
    program: 0,
    step: 0,
    takeParameters: false,
  };
  const report = { digest: '0'.repeat(16), outfeed: [], phaseMs: [], linkWaitMs: [] };
  const events: WorkerEvent[] = [
    { kind: 'message', message: { kind: 'load', generation: 1, steps: [0] } },
    { kind: 'loaded', digests: [] },
    ...Array<WorkerEvent>(2).fill({ kind: 'message', message: order }),
    { kind: 'ran', report },
    { kind: 'message', message: order },
  ];
  let state = initialWorker(0, [false]);
  const runs = events.flatMap((event) => {
    const next = worker(state, event);
    state = next.state;
    return next.actions.filter(({ kind }) => kind === 'run');
  });
  expect(runs).toHaveLength(1);
});

test('a master with its workers commits every step once for any delivery order of messages', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 5 }), fc.infiniteStream(fc.nat(1000)), (tpus, random) => {
      const names = Array.from({ length: tpus }, (_, i) => `tpu${i}`);
      const limits = {
        startMsLimit: 1,
        quietMsLimit: 1,
        silenceMsLimit: 1,
        silenceFactor: 1,
        sampleMsLimit: 1,
      };
      const programs = [{ unit: 'step', name: 'the training' }];
      const recovery = {
        policy: 'none',
        graceMsLimit: 1,
        lossesPerStepMax: 1,
        lossesPerMinuteMax: 1,
      } as const;
      let boss: MasterState = initialMaster(
        { names, copiesParameters: [false], programs, recovery, ...limits },
        0,
      );
      const workers = names.map((_, tpu) => initialWorker(tpu, [false]));
      const toMaster: FromWorker[] = [];
      const toWorkers: ToWorker[][] = names.map(() => []);
      let steps = 0;
      let commits = 0;
      const deliver = (tpu: number, event: WorkerEvent): void => {
        const next = worker(workers[tpu]!, event);
        workers[tpu] = next.state;
        for (const action of next.actions) {
          if (action.kind === 'send')
            toMaster.push(checkFromWorker(structuredClone(action.message)));
          if (action.kind === 'load')
            deliver(tpu, { kind: 'loaded', digests: ['0123456789abcdef'] });
          if (action.kind === 'run') {
            const report = {
              digest: '0123456789abcdef',
              outfeed: [new Uint8Array(4)],
              phaseMs: [1],
              linkWaitMs: [1],
            };
            deliver(tpu, { kind: 'ran', report });
          }
        }
      };
      names.forEach((_, tpu) => {
        deliver(tpu, { kind: 'started' });
      });
      for (let i = 0; i < 2000 && commits < 3; i++) {
        const pick = random.next().value % (tpus + 1);
        const order = pick < tpus ? toWorkers[pick]!.shift() : undefined;
        if (order !== undefined) deliver(pick, { kind: 'message', message: checkToWorker(order) });
        const [message] = toMaster.splice(random.next().value % Math.max(1, toMaster.length), 1);
        if (message === undefined) continue;
        const next = master(boss, { kind: 'message', message }, 0);
        boss = next.state;
        const actions = [...next.actions];
        if (boss.phase.kind === 'ready') {
          const started = master(
            boss,
            { kind: 'begin-step', order: { program: 0, step: steps++, takeParameters: true } },
            0,
          );
          boss = started.state;
          actions.push(...started.actions);
        }
        for (const action of actions) {
          expect(action.kind).not.toBe('refused');
          if (action.kind === 'send') toWorkers[action.tpu]!.push(action.message);
          if (action.kind === 'commit') commits++;
        }
      }
      expect(commits).toBe(3);
    }),
  );
});

test('a program that takes its parameters from another one does not need parameters of its own', () => {
  const [train, evaluate] = [fc.nat(9), fc.nat(9)];
  fc.assert(
    fc.property(train, evaluate, train, evaluate, (steps, evaluated, wanted, restarted) => {
      for (const keepsBefore of [true, false]) {
        const isHeld = hasParametersAfter(
          [steps, evaluated],
          [wanted, restarted],
          [false, true],
          keepsBefore,
        );
        expect(isHeld).toBe(wanted === steps || (keepsBefore && wanted + 1 === steps));
        expect(hasParametersAfter(null, [wanted, restarted], [false, true], keepsBefore)).toBe(
          false,
        );
      }
    }),
  );
});

test('a worker tells a new master its last generation and the steps of its parameters', () => {
  fc.assert(
    fc.property(fc.array(arbitraryEvent, { maxLength: 40 }), (events) => {
      let state: WorkerState = initialWorker(0, [false]);
      for (const event of events) state = worker(state, event).state;
      const { generation, steps } = state;
      expect(worker(state, { kind: 'started' }).actions).toEqual([
        { kind: 'send', message: { kind: 'joined', tpu: 0, generation, steps } },
      ]);
    }),
  );
});

test('a worker that throws reports the error once and ends', () => {
  const { state, actions } = worker(initialWorker(3, [false]), {
    kind: 'threw',
    code: null,
    message: 'oh',
  });
  expect(actions.map((action) => action.kind)).toEqual(['send', 'end']);
  expect(worker(state, { kind: 'loaded', digests: [] }).actions).toEqual([]);
});

test('a malformed message is refused with the name of its wrong field', () => {
  const order = { kind: 'start-step', generation: 1, program: 0, step: 3, takeParameters: true };
  const report: FromWorker = {
    ...{ kind: 'step-done', generation: 1, tpu: 0, program: 0, step: 0 },
    ...{ digest: '0123456789abcdef', outfeed: [new Uint8Array(4)], phaseMs: [1, 2] },
    linkWaitMs: [0.5],
  };
  expect(checkToWorker(order)).toEqual(order);
  expect(checkFromWorker(report)).toEqual(report);
  const refuses = (wrong: unknown, what: string): void => {
    expect(() => checkToWorker(wrong)).toThrow(`a message to a worker is malformed: ${what}`);
  };
  refuses({ ...order, step: -1 }, 'step of start-step');
  refuses({ ...order, step: '3' }, 'step of start-step');
  refuses({ ...order, extra: 1 }, 'start-step has no extra');
  refuses({ kind: 'start-step', generation: 1 }, 'program of start-step');
  refuses({ kind: 'toString' }, 'unknown kind');
  refuses('nonsense', 'expected fields, found string');
  refuses(null, 'expected fields, found object');
  for (const wrong of [
    ...[{ digest: 'xyz' }, { outfeed: ['a'] }, { phaseMs: 3 }, { linkWaitMs: [null] }],
  ]) {
    const message = `a message to the master is malformed: ${Object.keys(wrong)[0]} of step-done`;
    expect(() => checkFromWorker({ ...report, ...wrong })).toThrow(message);
  }
});
