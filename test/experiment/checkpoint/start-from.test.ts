import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { openThreadPod } from '../../../cluster/threads/pool.ts';
import { openCheckpoints } from '../../../src/experiment/checkpoint/checkpoints.ts';
import { readStart, withWeights } from '../../../src/experiment/checkpoint/start-from.ts';
import type { TrainConfig } from '../../../src/experiment/config.ts';
import type { TrainEvent } from '../../../src/experiment/event.ts';
import { requireCompiled } from '../../cluster/compiled.ts';
import { trainInto } from '../told.ts';
import { type MemoryFile, MemoryFiles } from './memory-files.ts';
import { config as base, snapshotOf } from './snapshots.ts';

requireCompiled();

describe('readStart', () => {
  let files: MemoryFiles;
  beforeEach(async () => {
    files = new MemoryFiles();
    const checkpoints = await openCheckpoints('dir', { keep: 9, files });
    for (const step of [1, 2, 3]) await checkpoints.save(snapshotOf(step));
    const newest = files.node('dir/step-0000003/weights.safetensors') as MemoryFile;
    newest.bytes = newest.bytes.slice(0, 100);
  });

  test('reads the newest good checkpoint of a folder and names the bad ones', async () => {
    const start = await readStart('dir', files);
    const { weightsDigest, tensors, weights } = snapshotOf(2);
    expect(start).toMatchObject({ path: 'dir/step-0000002', weightsDigest });
    expect(start.weights.map(({ name }) => name)).toEqual(['dense/kernel', 'dense/bias']);
    expect(start.weights.map(({ bytes }) => bytes)).toEqual(
      tensors.slice(0, weights).map(({ bytes }) => bytes),
    );
    expect(start.refused).toMatchObject([{ name: 'step-0000003' }]);
  });

  test('withWeights replaces weights only and leaves the optimizer state fresh', async () => {
    const start = await readStart('dir', files);
    const { tensors, weights } = snapshotOf(2);
    const fresh = tensors.map(({ bytes }) => new Uint8Array(bytes.length));
    const values = withWeights(start, tensors, weights, fresh);
    expect(values.slice(0, weights)).toEqual(start.weights.map(({ bytes }) => bytes));
    expect(values.slice(weights)).toEqual(fresh.slice(weights));
    const [kernel, bias] = tensors;
    for (const wrong of [
      [bias!, kernel!],
      [kernel!, { ...bias!, name: 'other' }],
    ]) {
      expect(() => withWeights(start, wrong, 2, fresh.slice(0, 2))).toThrow(
        /^weights of dir\/step-0000002: expected weight .*, found .*; start from a checkpoint of/,
      );
    }
    expect(() => withWeights(start, tensors, 3, fresh)).toThrow(/expected 3 weights, .* found 2;/);
  });
});

describe('a run with --start-from', () => {
  let folder = '';
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'pod-start-'));
  });
  afterEach(() => rmSync(folder, { recursive: true }));
  const config: TrainConfig = { ...base, data: 'digits:40', length: { unit: 'steps', steps: 3 } };

  async function collect(run: TrainConfig, into?: string, resume = false): Promise<TrainEvent[]> {
    const checkpoints = into && (await openCheckpoints(join(folder, into), { keep: 9 }));
    const plan = checkpoints ? { checkpoints: { checkpoints, every: 100, resume } } : {};
    return trainInto([], run, { openPod: openThreadPod, now: () => performance.now(), ...plan });
  }
  const digestOf = (events: readonly TrainEvent[]): string | undefined =>
    events.findLast((it) => it.kind === 'step')?.digest;
  const startFrom = (name: string): string => join(folder, name);

  test('begins with the weights of the checkpoint, and is another run', async () => {
    await collect(config, 'first');
    const started = { ...config, startFrom: startFrom('first') };
    const once = await collect(started, 'second');
    const first = await readStart(startFrom('first'));
    expect(once[1]).toEqual({
      kind: 'warm-started',
      checkpoint: join(folder, 'first', 'step-0000003'),
      weightsDigest: first.weightsDigest,
      refused: [],
    });
    // `startFrom` may be the path of a checkpoint instead of a directory of checkpoints. Here both
    // name the same weights. A run without `startFrom` draws its initial weights from its seed, so
    // it ends with other weights.
    const again = { ...config, startFrom: join(startFrom('first'), 'step-0000003') };
    expect(digestOf(await collect(again))).toBe(digestOf(once));
    expect(digestOf(await collect(config))).not.toBe(digestOf(once));
    // The run whose checkpoints are in `second` is finished. When this run is resumed, it trains no
    // step. A run without `startFrom`, or with another `startFrom`, is another run. It may not
    // resume from the checkpoints in `second`.
    const over = await collect(started, 'second', true);
    expect(over.map(({ kind }) => kind)).not.toContain('warm-started');
    expect(over.at(-1)).toMatchObject({
      report: { stepsTrained: 0, weightsDigest: digestOf(once) },
    });
    await expect(collect(config, 'second', true)).rejects.toThrow(
      /has weights [0-9a-f]{12} to start from, this run has initial weights drawn from its seed/,
    );
    const other = { ...config, startFrom: startFrom('second') };
    await expect(collect(other, 'second', true)).rejects.toThrow(
      /has weights .* this run has weig/,
    );
  }, 60_000);

  test('is refused in one line if the path is no checkpoint', async () => {
    const at = (path: string): Promise<unknown> => collect({ ...config, startFrom: path });
    mkdirSync(startFrom('empty'));
    for (const [path, found] of [
      [startFrom('none'), 'nothing there'],
      [startFrom('empty'), 'a folder without checkpoints'],
      [import.meta.filename, 'a file'],
    ] as const) {
      await expect(at(path)).rejects.toMatchObject({
        code: 'bad-data',
        message: `weights to start from, ${path}: expected a checkpoint (a folder step-…) or a folder of checkpoints, found ${found}`,
      });
    }
    await expect(at(startFrom('step-0000001'))).rejects.toMatchObject({
      code: 'bad-data',
      message: expect.stringMatching(/: expected a good checkpoint, found nothing there$/),
    });
  });

  test('is refused if the checkpoint is of another network', async () => {
    await collect(config, 'first');
    const other: TrainConfig = { ...config, model: 'cnn', startFrom: startFrom('first') };
    await expect(collect(other)).rejects.toMatchObject({ code: 'bad-config' });
  }, 60_000);
});
