import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { requireCompiled } from '../cluster/compiled.ts';
import { type Ended, endOf, startPod } from './run-pod.ts';

beforeAll(requireCompiled);
const folder = mkdtempSync(join(tmpdir(), 'train-faults-'));
afterAll(() => rmSync(folder, { recursive: true }));

const run = ['--tpus', '2', '--model', 'mlp', '--steps', '4', '--global-batch', '16'];

function train(...more: readonly string[]): Promise<Ended> {
  return endOf(startPod(['train', ...run, '--evaluate', '16', '--json', ...more]));
}

test('pod train --fault injects faults, and says which were injected and which never', async () => {
  const faults = ['kill:1@2/reduce-scatter/0/1', 'lose-row:0@3', 'lose-row:0@loading/9'].flatMap(
    (it) => ['--fault', it],
  );
  const checkpoint = ['--checkpoint', join(folder, 'checkpoints'), '--every', '1'];
  const [broken, right] = await Promise.all([
    train('--recovery', 'replace', ...checkpoint, ...faults),
    train(),
  ]);
  expect(broken.code).toBe(0);
  const lines = broken.stderr.split('\n');
  expect(lines.filter((line) => line.includes(' injected: ') && !line.includes('never'))).toEqual([
    'pod: injected: --fault kill:1@2/reduce-scatter/0/1',
    'pod: injected: --fault lose-row:0@3',
  ]);
  expect(lines.filter((line) => line.includes('never'))).toEqual([
    'pod: never injected: --fault lose-row:0@loading/9',
  ]);
  const [found, expected] = [JSON.parse(broken.stdout), JSON.parse(right.stdout)];
  expect(found).toMatchObject({ recoveries: 2, weightsDigest: expected.weightsDigest });
  expect(expected.recoveries).toBe(0);
  expect(right.stderr).not.toContain('injected');
}, 60_000);

test('pod train --fault refuses a wrong fault in one line, before anything runs', async () => {
  const refused = async (fault: string): Promise<Ended> => train('--fault', fault);
  const line = 'pod: bad-plan: --fault kill:2@2: tpu: expected a Cloud TPU from 0 to 1, found 2\n';
  expect(await refused('kill:2@2')).toMatchObject({ code: 2, stdout: '', stderr: line });
  expect((await refused('kill:1')).stderr).toMatch(/^pod: bad-flag: --fault: expected KIND.*\n$/);
  expect((await refused('disk-full@1')).stderr).toContain('this ground has no probe on the disk');
}, 60_000);
