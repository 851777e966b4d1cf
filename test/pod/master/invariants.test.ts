import { describe, expect, test } from 'vitest';
import { checkInvariants, master, masterInvariants } from '../../../src/pod/master/master.ts';
import {
  initialMaster,
  type MasterPhase,
  type MasterState,
  type Member,
  withMember,
} from '../../../src/pod/master/state.ts';
import type { StepOrder, StepReport } from '../../../src/pod/messages.ts';
import { Driver, digest, done } from './driver.ts';

const order = (step: number): StepOrder => ({ program: 0, step, takeParameters: false });
const report = (tpu: number, step: number): StepReport => {
  return { tpu, program: 0, step, digest, outfeed: [], phaseMs: [], linkWaitMs: [] };
};

/** Returns a master of three Cloud TPUs in step 1. Cloud TPU 2 has finished the step. */
function stepping(): Driver {
  const driver = new Driver(3, 'replace').start().skipTo(1).begin(1);
  driver.tell(done(2, 1));
  return driver;
}

/** Returns a master in generation 2 that has lost Cloud TPU 1 in step 1. */
function joining(): Driver {
  const driver = stepping();
  driver.give({ kind: 'exited', tpu: 1, reason: 'gone' });
  return driver;
}

/** Returns a master in generation 2. Cloud TPU 0 has loaded its programs, the others still load. */
function loading(): Driver {
  const driver = joining();
  for (const tpu of [0, 2]) driver.tell({ kind: 'aborted', tpu, generation: 2 });
  driver.tell({ kind: 'joined', tpu: 1, generation: 0, steps: null });
  driver.tell({ kind: 'ready', tpu: 0, generation: 2, digests: [digest] });
  return driver;
}

/** Returns a master in generation 2 that restores the parameters of Cloud TPU 1. */
function restoring(): Driver {
  const driver = loading();
  for (const tpu of [1, 2]) driver.tell({ kind: 'ready', tpu, generation: 2, digests: [digest] });
  return driver;
}

/** For each phase of a master, a state that violates no invariant. */
const right = {
  joining: joining().state,
  loading: loading().state,
  restoring: restoring().state,
  stepping: stepping().state,
  ready: new Driver(3, 'replace').start().skipTo(1).state,
} as const;

const change = (kind: keyof typeof right, changes: Partial<MasterState>): MasterState => {
  return { ...right[kind], ...changes };
};
const changeTpu = (kind: keyof typeof right, tpu: number, changes: Partial<Member>): MasterState =>
  withMember(right[kind], tpu, changes);
const changeAll = (kind: keyof typeof right, changes: Partial<Member>): MasterState => {
  const { members } = right[kind];
  return change(kind, { members: members.map((member) => ({ ...member, ...changes })) });
};
const step = (running: StepOrder): MasterPhase => ({ kind: 'stepping', order: running });

/**
 * For each invariant, some states that violate it. The key is the text of the invariant. Each state
 * is made from a valid one by a change.
 */
const violations: Readonly<Record<string, readonly MasterState[]>> = {
  'the generation is at least 1, and no rollback was in a later one': [
    change('joining', { generation: 0 }),
    change('ready', { rolledBackGeneration: 2 }),
    change('ready', { generation: Number.NaN }),
  ],
  'the slice keeps its number of Cloud TPUs': [
    change('ready', { members: right.ready.members.slice(1) }),
  ],
  'the status of each Cloud TPU fits the phase': [
    changeTpu('joining', 0, { status: 'busy' }),
    changeTpu('loading', 0, { status: 'present' }),
    changeTpu('stepping', 0, { status: 'leaving' }),
    changeTpu('ready', 0, { status: 'busy' }),
    change('joining', { phase: { kind: 'rolling-back', sinceMs: 0 } }),
  ],
  'the phase `joining` lasts until all Cloud TPUs are present, and no longer': [
    changeAll('joining', { status: 'present' }),
  ],
  'an absent Cloud TPU has neither parameters, nor a report, nor a silence': [
    changeTpu('joining', 1, { hasParameters: true }),
    changeTpu('joining', 1, { report: report(1, 1) }),
    changeTpu('joining', 1, { silentMs: 5 }),
  ],
  'a Cloud TPU that awaits its first worker is absent': [
    changeTpu('joining', 0, { awaitsFirstWorker: true }),
  ],
  'the worker that hosts another Cloud TPU too has joined, and has a Cloud TPU of its own': [
    changeTpu('joining', 0, { host: 1 }),
    changeTpu('joining', 1, { host: 1 }),
    changeTpu('joining', 1, { host: 3 }),
    withMember(changeTpu('stepping', 1, { host: 0 }), 0, { host: 2 }),
  ],
  'after the first loading, the parameters must be kept': [
    change('ready', { mustKeepParameters: false }),
    change('restoring', { mustKeepParameters: false }),
  ],
  'the phase `loading` lasts until all Cloud TPUs are ready, and no longer': [
    changeAll('loading', { status: 'ready' }),
  ],
  'parameters are copied from a Cloud TPU that has them, or come from a rollback': [
    changeAll('restoring', { hasParameters: false, status: 'busy' }),
  ],
  'in the phase `restoring`, the Cloud TPUs without parameters are busy, and no others': [
    changeTpu('restoring', 1, { status: 'ready' }),
    changeTpu('restoring', 0, { status: 'busy' }),
  ],
  'the phase `restoring` lasts until all Cloud TPUs have the parameters, and no longer': [
    changeAll('restoring', { hasParameters: true, status: 'ready' }),
  ],
  'every Cloud TPU has the parameters when steps run': [
    changeTpu('ready', 1, { hasParameters: false }),
    changeTpu('stepping', 1, { hasParameters: false }),
  ],
  'the steps of each program are committed, or behind the committed ones': [
    change('joining', { steps: [2] }),
    change('joining', { steps: [] }),
    change('joining', { steps: [0.5] }),
    change('joining', { committed: [] }),
  ],
  'a requested step follows the last commit of its program': [
    change('joining', { pending: order(2) }),
    change('joining', { pending: { ...order(1), program: 1 } }),
  ],
  'in the phase `ready`, no step is requested, behind, or in recovery': [
    change('ready', { pending: order(1) }),
    change('ready', { steps: [0] }),
    change('ready', { recoveringSinceMs: 5 }),
  ],
  'the running step is the next of its program': [
    change('stepping', { phase: step(order(2)) }),
    change('stepping', { phase: step({ ...order(1), program: 1 }) }),
  ],
  'the requested step runs once no committed step must run again, and not before': [
    change('stepping', { pending: null }),
    change('stepping', { steps: [0] }),
    change('stepping', { recoveringSinceMs: 5 }),
  ],
  'a step ends when every Cloud TPU has reported': [
    change('stepping', {
      members: right.stepping.members.map((member, tpu) => {
        return { ...member, status: 'ready', report: report(tpu, 1) };
      }),
    }),
  ],
  'in a step, the Cloud TPUs that are ready have reported, and no others': [
    changeTpu('stepping', 0, { status: 'ready' }),
    changeTpu('stepping', 2, { status: 'busy' }),
  ],
  'a report in a step is of this step, and of its own Cloud TPU': [
    changeTpu('stepping', 2, { report: report(1, 1) }),
    changeTpu('stepping', 2, { report: report(2, 0) }),
    changeTpu('stepping', 2, { report: { ...report(2, 1), program: 1 } }),
  ],
  'a new membership has no reports of an older one': [
    changeTpu('joining', 0, { report: report(0, 1) }),
    changeTpu('restoring', 0, { report: report(0, 1) }),
  ],
  'each program has a digest, or null': [
    change('ready', { agreement: { digests: [], stepWithoutMajority: null } }),
  ],
  'a step without a majority is committed already, or is the next to be committed': [
    change('joining', { agreement: { digests: [digest], stepWithoutMajority: order(2) } }),
  ],
  'a Cloud TPU is replaced at suspicion 2': [
    changeTpu('ready', 0, { suspicions: 2 }),
    changeTpu('ready', 0, { suspicions: -1 }),
  ],
  'an absent Cloud TPU is not suspected': [changeTpu('joining', 1, { suspicions: 1 })],
  'no Cloud TPU was lost more often than a run survives': [
    changeTpu('ready', 0, { lossesThisStep: 3 }),
    changeTpu('ready', 0, { lossesMs: [0, 1, 2, 3, 4] }),
  ],
  'the longest silence is a time': [
    change('ready', { detector: { ...right.ready.detector, longestSilenceMs: Number.NaN } }),
  ],
  'the silence of each Cloud TPU is a time': [
    changeTpu('ready', 0, { silentMs: -1 }),
    changeTpu('ready', 0, { silentMs: Number.POSITIVE_INFINITY }),
  ],
};

describe('invariants of the state of the master', () => {
  test.each(Object.entries(right))('hold in the phase %s', (phase, state) => {
    expect(state.phase.kind).toBe(phase);
    expect(() => checkInvariants(state)).not.toThrow();
  });

  test('hold while a worker hosts a second Cloud TPU, before it has joined for it and after', () => {
    const driver = joining();
    for (const tpu of [0, 2]) driver.tell({ kind: 'aborted', tpu, generation: 2 });
    driver.now = 3001;
    driver.give({ kind: 'sample', progress: [0, 0, 0] });
    expect(driver.state.members[1]).toMatchObject({ status: 'absent', host: 2 });
    expect(() => checkInvariants(driver.state)).not.toThrow();
    driver.tell({ kind: 'joined', tpu: 1, generation: 0, steps: null });
    expect(driver.state.members[1]).toMatchObject({ status: 'busy', host: 2 });
    expect(() => checkInvariants(driver.state)).not.toThrow();
  });

  test('hold at their limits', () => {
    const atLimits = [
      changeTpu('ready', 0, { lossesThisStep: 2, lossesMs: [0, 1, 2, 3], suspicions: 1 }),
      change('joining', { agreement: { digests: [digest], stepWithoutMajority: order(1) } }),
    ];
    for (const state of atLimits) expect(() => checkInvariants(state)).not.toThrow();
  });

  test('each have a planted violation', () => {
    const statements = masterInvariants.map(({ statement }) => statement);
    expect(Object.keys(violations).sort()).toEqual(statements.sort());
  });

  test.each(Object.entries(violations))('a violation is caught: %s', (statement, states) => {
    for (const state of states) {
      const violated = masterInvariants.filter((it) => !it.holds(state));
      expect(violated.map((it) => it.statement)).toContain(statement);
      expect(() => checkInvariants(state)).toThrow(`phase ${state.phase.kind}`);
    }
  });

  test('are checked after every event of a run, and no longer once the run has ended', () => {
    const wrong = changeTpu('ready', 0, { suspicions: 2 });
    const event = { kind: 'written', program: 0, digest } as const;
    expect(() => master(wrong, event, 0)).toThrow(
      'does not hold in generation 1, phase ready (ready, ready, ready): a Cloud TPU is replaced at suspicion 2',
    );
    expect(() => master({ ...wrong, phase: { kind: 'done' } }, event, 0)).not.toThrow();
    expect(() => checkInvariants(initialMaster(wrong.options, 0))).not.toThrow();
  });
});
