import fc from 'fast-check';
import { expect } from 'vitest';
import type { MasterAction } from '../../../src/pod/master/action.ts';
import type { MasterEvent } from '../../../src/pod/master/event.ts';
import { isOver, master } from '../../../src/pod/master/master.ts';
import type { MasterOptions, RecoveryPolicy } from '../../../src/pod/master/options.ts';
import {
  initialMaster,
  type MasterStart,
  type MasterState,
} from '../../../src/pod/master/state.ts';
import type { FromWorker } from '../../../src/pod/messages.ts';

/** Digest that every Cloud TPU reports unless a test says otherwise. */
export const digest: string = '00112233445566aa';

/** Returns the options of a master of `tpus` Cloud TPUs with one program. */
const options = (tpus: number, policy: RecoveryPolicy = 'none'): MasterOptions => ({
  names: Array.from({ length: tpus }, (_, tpu) => `Cloud TPU ${tpu} (x ${tpu}, y 0)`),
  copiesParameters: [false],
  programs: [{ unit: 'step', name: 'the training' }],
  startMsLimit: 5000,
  quietMsLimit: 4000,
  silenceMsLimit: 1200,
  silenceFactor: 4,
  sampleMsLimit: 250,
  recovery: { policy, graceMsLimit: 3000, lossesPerStepMax: 2, lossesPerMinuteMax: 4 },
});

/** Start of a run without earlier masters. */
export const anew: MasterStart = {
  generation: 0,
  steps: [0],
  digests: [null],
  mustKeepParameters: false,
};

/** Drives a master state machine and records all its actions. */
export class Driver {
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
  /** Runs and commits all steps before step `step`. */
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

/** Returns the message with which a Cloud TPU reports that it has done a step. */
export const done = (
  tpu: number,
  step: number,
  found: string = digest,
  generation = 1,
): FromWorker => ({
  kind: 'step-done',
  generation,
  tpu,
  program: 0,
  step,
  digest: found,
  outfeed: [],
  phaseMs: [],
  linkWaitMs: [],
});

/**
 * Gives samples to the master until the run fails with `worker-silent`. A sample has the progress
 * counters of Cloud TPUs 0, 1 and 2. The counters of Cloud TPUs 0 and 2 grow from sample to sample.
 * The counter of Cloud TPU 1 does not.
 */
export function untilSilent(driver: Driver): void {
  for (let i = 1; !isOver(driver.state); i++) {
    driver.now += 100;
    driver.give({ kind: 'sample', progress: [i, 1, i] });
  }
  expect(driver.failure().code).toBe('worker-silent');
}

/** Arbitrary messages from workers, about steps 0 to 2. Some belong to an older membership. */
export const arbitraryMessage = (tpus: number): fc.Arbitrary<FromWorker> => {
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
