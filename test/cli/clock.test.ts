import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type Ended, shell } from './run-pod.ts';

let folder = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'pod-clock-'));
});
afterEach(async () => {
  await shell(`$pod down --dir ${folder}/pod`);
  rmSync(folder, { recursive: true });
});

const jumping = pathToFileURL(new URL('jumping-clock.mjs', import.meta.url).pathname).href;
const run = '--model mlp --tpus 2 --steps 8 --global-batch 16 --evaluate 16';

/** Runs a line of shell in which the clock of every Node process jumps all the time. */
function jumpingShell(line: string): Promise<Ended> {
  return shell(`export NODE_OPTIONS='--import ${jumping}'; ${line}`);
}

test('a clock that jumps by hours again and again does not end a pod or change its weights', async () => {
  const straight = await shell(`$pod train ${run} --json`);
  const { weightsDigest } = JSON.parse(straight.stdout);
  const up = await jumpingShell(
    `$pod up --wait --dir ${folder}/pod ${run} --report ${folder}/r.json`,
  );
  expect([up.code, up.stderr]).toEqual([0, '']);
  const report = await shell(`cat ${folder}/r.json`);
  expect(JSON.parse(report.stdout)).toMatchObject({ weightsDigest, steps: 8 });
}, 60_000);

test('a clock that jumps in the master and the client does not break jobs, logs or token proofs', async () => {
  const at = `--dir ${folder}/pod`;
  const served = await jumpingShell(`$pod up --serve --tpus 1 ${at}`);
  expect([served.code, served.stderr]).toEqual([0, '']);
  for (const line of [
    `$pod submit --wait --json ${at} -- ${run.replace('--tpus 2', '--tpus 1')}`,
    `$pod logs job-1 ${at}`,
    `$pod jobs ${at}; $pod jobs ${at}; $pod jobs ${at}`,
    `$pod cancel nothing ${at} || [ $? = 2 ]`,
  ]) {
    const { code, stdout, stderr } = await jumpingShell(line);
    expect([line, code, stderr]).not.toEqual([line, code, expect.stringMatching(/unauthorized/)]);
    expect([line, code, stdout === '']).toEqual([line, 0, line.includes('cancel')]);
  }
}, 60_000);
