import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { planInFile } from '../../src/cli/plan-file.ts';
import { openPlanned, type PlannedRun, runWithFaults } from '../../src/cli/planned-run.ts';
import type { Ground } from '../../src/fault/plan.ts';
import { requireCompiled } from '../cluster/compiled.ts';
import { shell } from './run-pod.ts';

requireCompiled();
let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'pod-hops-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

/** Checks a plan whose only faults are pauses of Cloud TPU 1 at the given positions. */
function planned(run: string, ground: Ground, ...positions: string[]): Promise<PlannedRun> {
  const faults = positions.map(
    (at) => `  - { fault: pause, tpu: 1, at: { ${at} }, for: { ms: 1 } }`,
  );
  const path = join(folder, 'plan.yaml');
  writeFileSync(path, [`run: { ${run} }`, 'faults:', ...faults, ''].join('\n'));
  return openPlanned(planInFile(path), ground);
}

const small = 'steps: 2, globalBatch: 64, evaluate: 64';

test.each([
  ['sim', 'topology: 4x2, model: cnn', { bucket: 1, once: 7, twice: 15 }],
  ['threads', 'topology: 2x1, model: mlp', { bucket: 0, once: 3, twice: 7 }],
] as const)(
  'a run reaches the last hop of each phase and the last bucket, ground %s',
  async (ground, run, { bucket, once, twice }) => {
    const { injections } = await runWithFaults(
      await planned(
        `${run}, ${small}`,
        ground,
        `step: 1, phase: reduce-scatter, bucket: ${bucket}, hop: ${once}`,
        `step: 1, phase: all-reduce, bucket: ${bucket}, hop: ${twice}`,
        `step: 1, phase: all-gather, bucket: ${bucket}, hop: ${once}`,
      ),
      () => undefined,
    );
    expect(injections.map(({ index }) => index).sort()).toEqual([0, 1, 2]);
  },
  60_000,
);

test('a hop or a bucket that a run does not have is refused before the run', async () => {
  const mlp = `tpus: 8, model: mlp, ${small}`;
  await expect(planned(mlp, 'sim', 'step: 1, phase: all-reduce, hop: 16')).rejects.toThrow(
    /plan\.yaml:3:\d+: faults\.0\.at\.hop: expected a hop from 0 to 15 of all-reduce on 4x2/,
  );
  await expect(planned(mlp, 'threads', 'step: 1, phase: all-gather, bucket: 1')).rejects.toThrow(
    /faults\.0\.at\.bucket: expected bucket 0, the only one of this model, found 1/,
  );
  const cnn = `tpus: 8, model: cnn, ${small}`;
  await expect(planned(cnn, 'sim', 'step: 1, phase: all-gather, bucket: 2')).rejects.toThrow(
    /expected a bucket from 0 to 1 of this model, found 2/,
  );
  const flag = 'pod train --model mlp --steps 1 --recovery replace --fault kill:1@1/all-gather/9';
  const { code, stderr } = await shell(flag.replace('pod', '$pod'), { cwd: folder });
  expect([code, stderr]).toEqual([2, expect.stringContaining('expected bucket 0, the only one')]);
}, 60_000);

test('pod compile prints the buckets and the hops', async () => {
  const { stdout } = await shell('$pod compile --model mlp --tpus 8', { cwd: folder });
  expect(stdout).toMatch(/^1 bucket of gradients;/m);
  expect(stdout).toMatch(
    /^hops of a bucket on 4x2 Cloud TPUs: reduce-scatter 8, all-reduce 16, all-gather 8$/m,
  );
});
