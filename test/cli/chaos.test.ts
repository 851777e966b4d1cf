import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { requireCompiled } from '../cluster/compiled.ts';
import { type Ended, endOf, startPod } from './run-pod.ts';

beforeAll(requireCompiled);
const folder = mkdtempSync(join(tmpdir(), 'chaos-'));
afterAll(() => rmSync(folder, { recursive: true }));

const run = 'run: { tpus: 2, model: mlp, steps: 6, globalBatch: 16, evaluate: 16 }';

function pod(...args: readonly string[]): Promise<Ended> {
  return endOf(startPod(args));
}

function planFile(name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, `${run}\n${text}`);
  return path;
}

describe('pod chaos run', () => {
  test('injects faults at exact points and judges the run', async () => {
    const path = planFile(
      'right.yaml',
      `faults:
  - { fault: kill, tpu: 1, at: { step: 2, phase: reduce-scatter, hop: 1 } }
  - { fault: throw, tpu: 0, at: { step: 3, phase: outfeed } }
  - { fault: exit, tpu: 1, at: { during: loading, generation: 2 } }
  - { fault: out-of-memory, tpu: 0, at: { step: 5, phase: all-reduce, hop: 3 } }
expect: { weights: bit-identical, samples: exactly-once, steps: committed-once, culprit: named,
  recovery: { steps: "<=1" }, sometimes: [peer-recovery] }`,
    );
    const { code, stdout, stderr } = await pod('chaos', 'run', path, '--json');
    expect(stderr).toBe('');
    const { verdicts, outcomes } = JSON.parse(stdout);
    expect(verdicts.filter((it: { holds: boolean }) => !it.holds)).toEqual([]);
    expect(outcomes.map((it: { blamed: number }) => it.blamed)).toEqual([1, 0, 1, 0]);
    expect(code).toBe(0);
  }, 90_000);

  test('injects the same faults in processes, and ends with the same weights', async () => {
    const path = planFile(
      'processes.yaml',
      `faults:
  - { fault: kill, tpu: 1, at: { step: 2, phase: reduce-scatter, hop: 1 } }
  - { fault: flip-bit, in: weights, tpu: 0, at: { step: 4 } }
expect: { weights: bit-identical, samples: exactly-once, steps: committed-once }`,
    );
    const { code, stdout, stderr } = await pod(
      'chaos',
      'run',
      path,
      '--ground',
      'processes',
      '--json',
    );
    expect(stderr).toBe('');
    const { verdicts, outcomes } = JSON.parse(stdout);
    expect(verdicts.filter((it: { holds: boolean }) => !it.holds)).toEqual([]);
    expect(outcomes[0]).toMatchObject({ blamed: 1 });
    expect(code).toBe(0);
  }, 90_000);

  test('replaces a worker that hangs in processes, and loses no other worker', async () => {
    const path = planFile(
      'hang.yaml',
      `faults: [{ fault: hang, tpu: 1, at: { step: 2, phase: compute } }]
expect: { weights: bit-identical }`,
    );
    const record = join(folder, 'hang');
    const words = ['chaos', 'run', path, '--ground', 'processes', '--run', record];
    const { code, stdout } = await pod(...words);
    expect(stdout).not.toContain('BROKEN');
    expect(code).toBe(0);
    const events = readFileSync(join(record, 'events.ndjson'), 'utf8').split('\n');
    expect(events.filter((line) => line.includes('"event":"lost"'))).toHaveLength(1);
  }, 90_000);

  test('ends with 1 and names the expectation that does not hold', async () => {
    const path = planFile(
      'wrong.yaml',
      `faults: [{ fault: kill, tpu: 1, at: { step: 2 } }]
expect: { sometimes: [quarantine], goodput: ">=0.01" }`,
    );
    const { code, stdout } = await pod('chaos', 'run', path);
    expect(stdout).toMatch(/^BROKEN {2}sometimes: quarantine: taken 0 times$/m);
    expect(stdout).toMatch(/^holds {3}goodput: >=0\.01: /m);
    expect(code).toBe(1);
  }, 60_000);

  test('refuses a plan before anything runs, with line and column', async () => {
    const path = planFile('refused.yaml', 'faults: [{ fault: kill, tpu: 2, at: { step: 2 } }]');
    expect(await pod('chaos', 'run', path)).toMatchObject({
      code: 2,
      stdout: '',
      stderr: `pod: bad-plan: ${path}:2:30: faults.0.tpu: expected a Cloud TPU from 0 to 1, found 2\n`,
    });
    const setting = planFile('setting.yaml', '');
    writeFileSync(setting, 'run: { modell: mlp }');
    expect((await pod('chaos', 'run', setting)).stderr).toMatch(
      /run\.modell in .*setting\.yaml: there is no such setting; .* resume\n$/,
    );
    expect((await pod('chaos', 'run', join(folder, 'none.yaml'))).code).toBe(2);
  });

  test('refuses a fault that the ground cannot inject, with the reason', async () => {
    const path = planFile('ground.yaml', 'faults: [{ fault: disk-full, at: { step: 2 } }]');
    const slow = planFile(
      'hop.yaml',
      'faults: [{ fault: slow, tpu: 0, factor: 2, at: { step: 2, phase: all-gather } }]',
    );
    expect((await pod('chaos', 'run', slow, '--ground', 'processes')).stderr).toContain(
      'slow: hops of processes are made on another thread than the cores',
    );
    const { code, stderr } = await pod('chaos', 'run', path);
    expect(stderr).toContain('disk-full: this ground has no probe on the disk');
    expect(code).toBe(2);
  });

  test('simulates a plan, with the same log byte for byte, on a grid larger than a pod', async () => {
    const path = join(folder, 'sim.yaml');
    writeFileSync(
      path,
      `run: { topology: 12x9, model: mlp, steps: 4, evaluate: 1 }
faults:
  - { fault: lose-column, column: 11, at: { step: 2, phase: all-gather, hop: 23 } }
  - { fault: hang, tpu: 107, at: { during: joining, generation: 2 } }
  - { fault: exit, tpu: 0, at: { during: restoring } }
  - { fault: flip-bit, in: weights, tpu: 0, at: { step: 3 } }
expect: { weights: bit-identical, samples: exactly-once, steps: committed-once }`,
    );
    const logs = [join(folder, 'first.log'), join(folder, 'second.log')];
    for (const log of logs) {
      const { code, stdout } = await pod('chaos', 'run', path, '--ground', 'sim', '--log', log);
      expect(stdout).not.toContain('BROKEN');
      expect(code).toBe(0);
    }
    const [first = '', second] = logs.map((log) => readFileSync(log, 'utf8'));
    expect(first.match(/"event":"injected"/g)?.length).toBe(12);
    expect(second).toBe(first);
  }, 90_000);

  test('refuses what only the simulation can do on other grounds, and what it cannot do', async () => {
    const large = join(folder, 'large.yaml');
    writeFileSync(large, 'run: { topology: 16x16, steps: 2 }');
    expect((await pod('chaos', 'run', large)).stderr).toContain('1 to 8 columns');
    writeFileSync(large, 'run: { topology: 16x99, steps: 2 }');
    const { stderr } = await pod('chaos', 'run', large, '--ground', 'sim');
    expect(stderr).toContain('1 to 32 columns and 1 to 32 rows of Cloud TPUs, found "16x99"');
    const path = planFile(
      'sim-clock.yaml',
      'faults: [{ fault: clock-jump, tpu: 1, ms: 9, at: { step: 2 } }]',
    );
    expect((await pod('chaos', 'run', path, '--ground', 'sim')).stderr).toContain(
      'clock-jump: the simulation has',
    );
    expect((await pod('chaos', 'run', path, '--log', 'x')).stderr).toContain(
      '--log: expected --ground sim, found --ground threads',
    );
  });

  test('prints the JSON Schema of a plan', async () => {
    const { stdout, code } = await pod('chaos', 'schema');
    expect(JSON.parse(stdout)).toMatchObject({ type: 'object', additionalProperties: false });
    expect(code).toBe(0);
  });
});

/**
 * Grounds on which a plan of the gallery runs here, if these are not `sim` alone. Few plans run in
 * threads or processes, because such a run takes some seconds.
 */
const groundsOfPlan: Readonly<Record<string, readonly string[]>> = {
  'frames.yaml': ['processes', 'sim'],
  'joins.yaml': ['processes'],
  'straggler.yaml': ['threads', 'sim'],
  'wrong-weights.yaml': ['threads', 'sim'],
};

describe('the plans of the gallery', () => {
  const cases = readdirSync('test/plans').flatMap((name) =>
    (groundsOfPlan[name] ?? ['sim']).map((ground) => [name, ground] as const),
  );
  test.each(cases)(
    '%s holds, ground %s',
    async (name, ground) => {
      const path = join('test/plans', name);
      const { code, stdout } = await pod('chaos', 'run', path, '--ground', ground);
      expect(stdout).not.toContain('BROKEN');
      expect(code).toBe(0);
    },
    90_000,
  );
});
