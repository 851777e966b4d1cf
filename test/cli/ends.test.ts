import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { endOf, shell, startPod, untilWritten } from './run-pod.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'pod-ends-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

const tiny = '--model mlp --tpus 1 --steps 3 --global-batch 8 --evaluate 8';

/** Arguments of a run whose evaluation has 1,250 batches, so that a signal can arrive during it. */
const longEvaluation = ['train', '--model', 'mlp', '--tpus', '1', '--steps', '2'].concat([
  '--global-batch',
  '8',
]);

describe('a signal ends a run after the current step, and the exit code depends on the signal', () => {
  test.each([
    ['SIGINT', 130],
    ['SIGTERM', 143],
    ['SIGHUP', 143],
  ] as const)('%s during the evaluation', async (signal, code) => {
    const pod = startPod([...longEvaluation, '--checkpoint', join(folder, 'ck')]);
    const ended = endOf(pod);
    await untilWritten(pod, 'evaluating on');
    pod.kill(signal);
    const { code: found, stdout, stderr } = await ended;
    expect(found).toBe(code);
    expect(stderr).toContain(
      `pod: ${signal}: the run ends after this step; a second signal ends it at once`,
    );
    expect(stdout).toContain('stopped after step 2 of 2; saved');
    expect(stdout).not.toContain('held-out accuracy');
    expect(readdirSync(join(folder, 'ck'))).toContain('step-0000002');
  });

  test('under nohup SIGHUP does not end a run', async () => {
    const train = `nohup $pod train ${tiny.replace('steps 3', 'steps 200')} >out 2>&1 &`;
    const line = `${train} until grep -q '1/200' out; do sleep 0.1; done; kill -HUP $!; wait $!`;
    const { code } = await shell(line, { cwd: folder });
    expect(readFileSync(join(folder, 'out'), 'utf8')).toContain('held-out accuracy');
    expect(code).toBe(0);
  });
});

describe('a run whose output cannot be written goes on and ends with exit code 5', () => {
  test.each([
    ['a reader that goes away', '| head -1', 'write EPIPE'],
    ['a full disk', '>/dev/full', 'ENOSPC'],
    ['a closed descriptor', '>&-', 'it was closed'],
  ])('%s', async (_, redirection, why) => {
    const outputs = '--report run.json --checkpoint ck';
    const line = `set -o pipefail; $pod train ${tiny} ${outputs} ${redirection}`;
    const { code, stderr } = await shell(line, { cwd: folder });
    expect(code).toBe(5);
    expect(stderr).toMatch(/^pod: io: output was lost: standard output: [^\n]*\n$/);
    expect(stderr).toContain(why);
    expect(JSON.parse(readFileSync(join(folder, 'run.json'), 'utf8'))).toMatchObject({ steps: 3 });
    expect(readdirSync(join(folder, 'ck'))).toContain('step-0000003');
  });

  test('standard error on a full disk does not stop a run either', async () => {
    const line = `$pod train ${tiny} --json 2>/dev/full`;
    const { code, stdout } = await shell(line, { cwd: folder });
    expect(code).toBe(5);
    expect(JSON.parse(stdout)).toMatchObject({ steps: 3 });
  });

  test('output to /dev/null does not count as lost', async () => {
    const { code } = await shell(`$pod train ${tiny} >/dev/null 2>/dev/null`, { cwd: folder });
    expect(code).toBe(0);
  });

  test.each(['devices', 'train --help', 'compile --model mlp', 'doctor'])(
    'pod %s ends with exit code 5 if its output is lost',
    async (command) => {
      const { code, stderr } = await shell(`$pod ${command} >/dev/full`, { cwd: folder });
      expect(code).toBe(5);
      expect(stderr).toMatch(/^pod: io: output was lost: standard output: ENOSPC[^\n]*\n$/);
    },
  );
});

test('a run that diverges after its last loss ends with exit code 3, without a report or null in its log', async () => {
  const rate = '--schedule constant --warm-up 0 --learning-rate 1e6';
  const outputs = '--report run.json --log run.log --checkpoint ck --every 1';
  const line = `$pod train --model mlp --tpus 1 --steps 4 --global-batch 64 ${rate} ${outputs}`;
  const { code, stdout, stderr } = await shell(line, { cwd: folder });
  expect(code).toBe(3);
  expect(stderr).toMatch(/^pod: diverged: step \d: expected [^\n]*\n$/);
  expect(stdout).not.toMatch(/NaN|Infinity/);
  expect(existsSync(join(folder, 'run.json'))).toBe(false);
  expect(readFileSync(join(folder, 'run.log'), 'utf8')).not.toContain('null');
});
