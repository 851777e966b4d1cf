import { appendFileSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { CommitLog } from '../../../cluster/master/commit-log.ts';
import { packAssignment, programsOf, readAssignment } from '../../../cluster/process/assignment.ts';
import { checkFromNode, checkToNode } from '../../../cluster/process/messages.ts';
import { rankOf } from '../../../cluster/worker/rank.ts';
import { trainOptions } from '../../../src/cli/options.ts';
import { openDataset } from '../../../src/data/open.ts';
import { buildPrograms } from '../../../src/experiment/programs.ts';
import { newFolder } from './pod.ts';

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

describe('the log of commits', () => {
  const folders: string[] = [];
  afterEach(() => {
    for (const made of folders.splice(0)) rmSync(made, { recursive: true });
  });
  const newPath = (): string => {
    const made = newFolder();
    folders.push(made);
    return join(made, 'deep', 'commits.jsonl');
  };
  const { config } = trainOptions({ model: 'mlp' });
  const entry = (step: number) => ({ step, epoch: 1, digest: `${step}`.padStart(16, '0') });
  const write = (path: string, ...steps: number[]): void => {
    const log = new CommitLog(path, config);
    for (const step of steps) log.commit(entry(step));
    log.close();
  };

  test('goes on where it ended, and takes no step twice', () => {
    const path = newPath();
    write(path, 1, 2);
    write(path, 2, 3);
    const log = new CommitLog(path, config);
    expect(log.last).toBe(3);
    expect(() => log.commit({ ...entry(2), digest: 'f'.repeat(16) })).toThrow(/step 2 run again/);
    log.close();
    expect(readFileSync(path, 'utf8').trim().split('\n')).toHaveLength(4);
  });

  test('cut at any byte it keeps the whole lines before', () => {
    const path = newPath();
    write(path, 1, 2);
    const whole = readFileSync(path);
    for (let cut = 0; cut <= whole.length; cut++) {
      writeFileSync(path, whole.subarray(0, cut));
      const lines = whole.subarray(0, cut).toString().split('\n').length - 1;
      const log = new CommitLog(path, config);
      expect(log.last).toBe(Math.max(0, lines - 1));
      log.close();
      expect(readFileSync(path, 'utf8').endsWith('\n')).toBe(true);
    }
  });

  test('what is no entry ends it, and another run begins it anew', () => {
    const path = newPath();
    write(path, 1);
    appendFileSync(path, '{"step":2}\n');
    write(path, 2);
    const other = new CommitLog(path, { ...config, seed: 1 });
    expect(other.last).toBe(0);
    other.close();
  });
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

  test('an assignment is the same on both sides, executables included', () => {
    const { config } = trainOptions({ model: 'mlp', steps: '2' });
    const { train, evaluate, weights } = buildPrograms(config, openDataset('digits', 0), 2);
    const programs = [
      { executable: train, digested: weights },
      { executable: evaluate, digested: weights, parametersFrom: 0 },
    ];
    const slice = { topology: config.topology, mxu: config.mxu, relaxed: true };
    const { assignment, code } = packAssignment(slice, programs);
    const read = readAssignment(assignment);
    expect(read).toMatchObject(slice);
    expect(programsOf(read, code)).toEqual(programs);
    const flipped = Uint8Array.from(code, (byte, i) => (i === code.length >> 1 ? byte ^ 1 : byte));
    expect(() => programsOf(read, flipped)).toThrow(/executables: expected .* bytes with hash/);
    const wrong = { ...read, mxu: 'slow' };
    expect(() => readAssignment(JSON.stringify(wrong))).toThrow(/mxu/);
  });
});
