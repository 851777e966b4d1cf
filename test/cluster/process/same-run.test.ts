import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { afterEach, beforeAll, beforeEach, expect, test, vi } from 'vitest';
import { parseRecord } from '../../../cluster/master/log-record.ts';
import { requireCompiled } from '../compiled.ts';
import { fieldOf, newFolder, pod, type Ran, startProgram } from './pod.ts';

beforeAll(requireCompiled);
vi.setConfig({ testTimeout: 120_000, hookTimeout: 30_000 });

let dir = '';
let port = 0;
const started: ReturnType<typeof startProgram>[] = [];

beforeEach(async () => {
  dir = newFolder();
  port = await freePort();
  writeFileSync(join(dir, 'token'), 'a token that only tests know\n', { mode: 0o600 });
  start('cluster/worker/main', { POD_MASTER: `127.0.0.1:${port}`, POD_TENSOR_PORT: '0' });
});
afterEach(async () => {
  for (const { child } of started) child.kill('SIGKILL');
  await Promise.all(started.splice(0).map(({ ran }) => ran));
  rmSync(dir, { recursive: true });
});

const run = '--model mlp --tpus 1 --steps 80 --global-batch 8 --evaluate';

test('a new master with another evaluation continues the run of the killed master', async () => {
  const killed = startMaster(`${run} 8`);
  await untilStep(killed.child, 10);
  killed.child.kill('SIGKILL');
  await killed.ran;
  const again = await startMaster(`${run} 16 --recovery replace`).ran;
  const { out } = await pod('train', ...`${run} 16`.split(' '), '--json').ran;
  const summary = lineOf(again, 'summary');
  expect(again.code).toBe(0);
  expect(summary['weightsDigest']).toBe(fieldOf(out, 'weightsDigest'));
  expect(summary['evalSamples']).toBe(16);
  expect(Number(lineOf(again, 'commits-found')['step'])).toBeGreaterThanOrEqual(10);
  expect(again.out).not.toContain('"msg":"another-run"');
  // Each of the 80 steps must have been committed once, by one of the two masters.
  expect(committed('ended-commits.jsonl')).toEqual(Array.from({ length: 80 }, (_, i) => i + 1));
});

test('a new master with another run starts from step 1 and logs which run it abandons', async () => {
  const killed = startMaster(`${run} 8`);
  await untilStep(killed.child, 10);
  killed.child.kill('SIGKILL');
  await killed.ran;
  const other = startMaster(`${run} 8 --seed 1`);
  await untilStep(other.child, 1);
  other.child.kill('SIGKILL');
  const line = lineOf(await other.ran, 'another-run');
  expect(line).toMatchObject({ level: 40, steps: 80 });
  expect(line['cause']).toMatch(
    /^an unfinished run, at step \d+ of 80, is not continued: this run has seed 1, not seed 0, and/,
  );
});

function startMaster(args: string): ReturnType<typeof startProgram> {
  return start('cluster/master/main', {
    ...{ POD_ARGS: args, POD_MODE: 'job', TPUS: '', POD_DATA_DIR: dir },
    ...{ POD_CONTROL_HOST: '127.0.0.1', POD_CONTROL_PORT: String(port), POD_API_PORT: '0' },
  });
}

function start(program: string, env: NodeJS.ProcessEnv): ReturnType<typeof startProgram> {
  const name = program.replaceAll('/', '-');
  const made = startProgram(program, [], {
    ...{ POD_TOKEN_FILE: join(dir, 'token'), POD_STATUS_FILE: join(dir, `${name}.status`) },
    ...env,
  });
  started.push(made);
  return made;
}

/** Waits until a master has logged the commit of a step. */
function untilStep(child: ReturnType<typeof startProgram>['child'], step: number): Promise<void> {
  return new Promise((found, failed) => {
    let text = '';
    child.stdout?.on('data', (piece: string) => {
      text += piece;
      if (text.includes(`"step":${step},`)) found();
    });
    child.once('close', () => failed(new Error(`it ended before step ${step}: ${text}`)));
  });
}

/** Returns the first log line with the message `msg`, parsed from JSON. */
function lineOf({ out }: Ran, msg: string): Readonly<Record<string, unknown>> {
  const line = out.split('\n').find((it) => it.includes(`"msg":"${msg}"`));
  if (line === undefined) throw new Error(`no line "${msg}" in ${out}`);
  return JSON.parse(line);
}

function committed(name: string): number[] {
  const lines = readFileSync(join(dir, name), 'utf8').split('\n');
  return lines.flatMap((line) => {
    const record = parseRecord(line);
    return record !== undefined && 'commit' in record ? [record.commit.step] : [];
  });
}

function freePort(): Promise<number> {
  return new Promise((found) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const address = server.address();
      server.close(() => found(typeof address === 'object' ? (address?.port ?? 0) : 0));
    });
  });
}
