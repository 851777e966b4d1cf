import { describe, expect, test } from 'vitest';
import { Coverage } from '../../src/fault/coverage.ts';
import { drawableKinds } from '../../src/fault/draw.ts';
import { type Fault, type Memory, recoveryPaths } from '../../src/fault/plan.ts';
import { allPhases, randomCase } from '../../src/fault/random-plan.ts';
import type { Note } from '../../src/pod/master/action.ts';

const kill: Fault = { fault: 'kill', tpu: 1, at: { step: 3, phase: 'update' } };

function flip(memory: Memory): Fault {
  return { fault: 'flip-bit', in: memory, tpu: 1, at: { step: 3, phase: 'update' } };
}

function noted(...events: readonly Note['event'][]): {
  readonly notes: readonly { readonly ms: number; readonly note: Note }[];
} {
  const common = { generation: 2, program: 0, step: 1, tpu: 1, cause: '', elapsedMs: 0 };
  return { notes: events.map((event) => ({ ms: 1, note: { ...common, event } })) };
}

describe('the coverage', () => {
  test('counts each fault in its phase, flipped bits by their memory', () => {
    const coverage = new Coverage('sim');
    coverage.add([kill, kill, flip('weights')], noted());
    coverage.add([{ fault: 'hang', tpu: 0, at: { during: 'loading' } }], noted());
    coverage.add([{ fault: 'hang', tpu: 0, at: { step: 1 } }], noted());
    const { matrix } = coverage.report();
    expect(matrix['kill']?.update.count).toBe(2);
    expect(matrix['flip-bit in weights']?.update.count).toBe(1);
    expect(matrix['flip-bit in reduce-buffer']?.update.count).toBe(0);
    expect(matrix['hang']?.loading.count).toBe(1);
    expect(matrix['hang']?.compute.count).toBe(1);
  });

  test('counts the recovery paths that were taken', () => {
    const coverage = new Coverage('sim');
    coverage.add([], noted('lost', 'restored', 'restored', 'resumed'));
    coverage.add([], noted('rolled-back', 'adopted'));
    const { paths, findings } = coverage.report();
    expect(paths).toEqual({
      ...{ 'peer-recovery': 2, adoption: 1, 'checkpoint-recovery': 1, quarantine: 0 },
    });
    expect(findings).toContain('the recovery path quarantine was never taken');
    expect(findings).not.toContain('the recovery path adoption was never taken');
  });

  test('has a cell for each kind in each phase, with a count, a reason or a finding', () => {
    const { matrix, findings } = new Coverage('sim').report();
    expect(Object.keys(matrix)).toEqual(drawableKinds.map(({ name }) => name));
    const empty = Object.entries(matrix).flatMap(([row, cells]) =>
      allPhases.filter((phase) => cells[phase].reason === undefined).map((phase) => [row, phase]),
    );
    expect(empty.length).toBeGreaterThan(80);
    expect(findings).toHaveLength(empty.length + recoveryPaths.length);
    expect(findings).toContain('no fault kill was injected in the phase update');
  });

  test('says why a wrong sum before the end of the all-reduce is not injected', () => {
    const { matrix } = new Coverage('sim').report();
    const sums = matrix['flip-bit in reduce-buffer'];
    expect(sums?.['reduce-scatter'].reason).toContain('cannot be noticed by design');
    expect(sums?.update.reason).toBeUndefined();
  });

  test('of 3000 random plans has no empty cell without a reason', () => {
    const coverage = new Coverage('sim');
    const all = noted('restored', 'adopted', 'rolled-back', 'quarantined');
    for (let seed = 0; seed < 3000; seed++) coverage.add(randomCase(seed).faults, all);
    expect(coverage.report().findings).toEqual([]);
  });
});
