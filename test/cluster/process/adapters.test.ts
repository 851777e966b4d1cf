import { describe, expect, test } from 'vitest';
import { decodeAssignment, encodeAssignment } from '../../../cluster/process/assignment.ts';
import { checkFromNode, checkToNode } from '../../../cluster/process/messages.ts';
import { rankOf } from '../../../cluster/worker/rank.ts';
import { trainOptions } from '../../../src/cli/options.ts';

describe('which Cloud TPU a process is', () => {
  test.each([
    [{}, undefined],
    [{ TPU_WORKER_ID: '3', POD_SLOT: '1' }, 3],
    [{ TPU_WORKER_ID: '', TPU_WORKER_HOSTNAMES: 'a.pod,here.pod' }, 1],
    [{ POD_SLOT: '1' }, 0],
    [{ JOB_COMPLETION_INDEX: '5' }, 5],
  ])('%j', (env, rank) => expect(rankOf(env, 'here')).toBe(rank));

  test.each([
    [{ TPU_WORKER_ID: '-1' }, /TPU_WORKER_ID: expected a number/],
    [{ POD_SLOT: '0' }, /POD_SLOT: expected a number from 1/],
    [{ TPU_WORKER_HOSTNAMES: 'a,b' }, /expected here among a,b/],
  ])('%j is refused', (env, message) => expect(() => rankOf(env, 'here')).toThrow(message));
});

describe('messages', () => {
  test('are what their schema says, and nothing besides', () => {
    const pulse = { kind: 'pulse', beats: 7 };
    expect(checkFromNode(pulse)).toEqual(pulse);
    for (const wrong of [{ ...pulse, beats: -1 }, { ...pulse, more: 1 }, { kind: 'pulses' }, 7]) {
      expect(() => checkFromNode(wrong)).toThrow(/a message to the master is malformed/);
    }
    const step = { kind: 'pod', message: { kind: 'stop', epoch: 'now' } };
    expect(() => checkToNode(step)).toThrow(/epoch of stop/);
  });

  test('an assignment is the same on both sides', () => {
    const { config } = trainOptions({ model: 'mlp', epochs: '2', evaluate: '3' });
    const assignment = { config, relaxed: true, programs: [{ digested: 3 }], hash: 'ab' };
    expect(decodeAssignment(encodeAssignment(assignment))).toEqual(assignment);
    const wrong = { ...assignment, config: { ...config, model: 'other' } };
    expect(() => decodeAssignment(JSON.stringify(wrong))).toThrow(/config.model/);
  });
});
