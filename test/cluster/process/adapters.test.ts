import { describe, expect, test } from 'vitest';
import { packAssignment, programsOf, readAssignment } from '../../../cluster/process/assignment.ts';
import { checkFromNode, checkToNode } from '../../../cluster/process/messages.ts';
import { trainOptions } from '../../../src/cli/options.ts';
import { openDataset } from '../../../src/data/open.ts';
import { buildPrograms } from '../../../src/experiment/programs.ts';

describe('messages', () => {
  test('are refused unless they match their schema exactly', () => {
    const heartbeat = { kind: 'heartbeat', progress: 7 };
    expect(checkFromNode(heartbeat)).toEqual(heartbeat);
    for (const wrong of [
      { ...heartbeat, progress: -1 },
      { ...heartbeat, more: 1 },
      { kind: 'heartbeats' },
      7,
    ]) {
      expect(() => checkFromNode(wrong)).toThrow(/a message to the master is malformed/);
    }
    const offer = { host: '10.0.0.1', port: 7071 };
    const offered = { kind: 'offer', pid: 1, hostname: 'tpu-1', offer };
    expect(checkFromNode(offered)).toEqual(offered);
    for (const text of ['a\u001b[2J', 'a\nb', 'a\u009b', 'a'.repeat(256)]) {
      expect(() => checkFromNode({ ...offered, hostname: text })).toThrow(/hostname of offer/);
      const lying = { ...offered, offer: { ...offer, host: text } };
      expect(() => checkFromNode(lying)).toThrow(/offer of offer/);
    }
    const step = { kind: 'pod', message: { kind: 'stop', generation: 'now' } };
    expect(() => checkToNode(step)).toThrow(/generation of stop/);
  });

  test('an assignment is unpacked as it was packed, with its executables', () => {
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
