import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { openCheckpoints } from '../../../src/experiment/checkpoint/checkpoints.ts';
import { requireCompiled } from '../../cluster/compiled.ts';

requireCompiled();
const saver = fileURLToPath(new URL('saver.mjs', import.meta.url));

let directory = '';
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'pod-'));
});
afterEach(() => rm(directory, { recursive: true, force: true }));

test('a process killed while it saves leaves the last checkpoint that it reported, or a newer one', async () => {
  const outcomes: string[][] = [];
  for (const afterMs of [0, 3, 7, 12, 19, 31]) {
    const told = await killedAfter(afterMs);
    const checkpoints = await openCheckpoints(directory, { keep: 2 });
    const { checkpoint, refused } = await checkpoints.latest();
    expect(refused).toEqual([]);
    const step = checkpoint?.manifest.step ?? 0;
    expect([told, told + 1]).toContain(step);
    expect(new Float32Array(checkpoint!.tensors[0]!.bytes.slice().buffer)[7]).toBe(step);
    outcomes.push([...(await checkpoints.list())]);
    // The next process starts with an empty directory.
    await rm(directory, { recursive: true });
  }
  for (const names of outcomes) expect(names.length).toBeLessThanOrEqual(3);
});

/**
 * Starts saver.mjs and kills it `afterMs` after its third checkpoint. Returns the last step that
 * saver.mjs has reported as saved.
 */
async function killedAfter(afterMs: number): Promise<number> {
  const child = spawn(process.execPath, [saver, directory], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const ended = once(child, 'close');
  let told = '';
  const third = new Promise<void>((resolve) => {
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      told += text;
      if (told.includes('3\n')) resolve();
    });
  });
  await Promise.race([third, ended]);
  await sleep(afterMs);
  child.kill('SIGKILL');
  expect((await ended)[1]).toBe('SIGKILL');
  return Number(told.trim().split('\n').at(-1));
}
