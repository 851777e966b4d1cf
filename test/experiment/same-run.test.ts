import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openDataset } from '../../src/data/open.ts';
import { stepsMax, type TrainConfig, totalSteps } from '../../src/experiment/config.ts';
import {
  differenceBetween,
  identityOf,
  keyDigest,
  keyOf,
  type RunKey,
  readKey,
  shortest,
} from '../../src/experiment/same-run.ts';
import { config } from './checkpoint/snapshots.ts';

function key(change: Partial<TrainConfig> = {}, startDigest: string | null = null): RunKey {
  const run = { ...config, ...change };
  return keyOf(identityOf(run, openDataset(run.data, run.seed).train, startDigest));
}

describe('two runs are the same run', () => {
  test('with their settings in any order', () => {
    const entries = Object.entries(config);
    fc.assert(
      fc.property(fc.shuffledSubarray(entries, { minLength: entries.length }), (shuffled) => {
        expect(key(Object.fromEntries(shuffled) as unknown as TrainConfig)).toEqual(key());
        expect(keyDigest(Object.fromEntries(Object.entries(key()).reverse()))).toBe(
          keyDigest(key()),
        );
      }),
      { numRuns: 20 },
    );
  });

  test('with a length in epochs that equals a length in steps', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 400 }), (steps) => {
        const epochs = (steps * config.globalBatch) / 200;
        const found = totalSteps({ ...config, length: { unit: 'epochs', epochs } }, 200);
        const inSteps = key({ length: { unit: 'steps', steps: found } });
        expect(key({ length: { unit: 'epochs', epochs } })).toEqual(inSteps);
      }),
      { numRuns: 50 },
    );
  });

  test('with different settings that do not change the weights', () => {
    const same: Partial<TrainConfig>[] = [
      { mxu: 'systolic' },
      { remat: 'always' },
      { recovery: 'replace' },
      { evaluate: undefined },
      { evaluate: 1 },
      { startFrom: 'a path alone says nothing' },
    ];
    for (const change of same) expect(key(change)).toEqual(key());
  });

  test('with another spelling of the same learning rates', () => {
    const flat: Partial<TrainConfig> = { schedule: 'constant', learningRate: 0.5, warmUp: 0 };
    const scaled = { ...flat, schedule: 'linear-scaling', learningRate: 16 } as const;
    expect(key(scaled)).toEqual(key(flat));
    // The warm-up is a share of the run's six steps. Shares of 0.05 and 0.08 both round to 0 steps.
    expect(key({ warmUp: 0.05 })).toEqual(key({ warmUp: 0.08 }));
  });

  test.each<[keyof RunKey, Partial<TrainConfig>]>([
    ['topology', { topology: { columns: 2, rows: 1 } }],
    ['model', { model: 'cnn' }],
    ['globalBatch', { globalBatch: 16 }],
    ['seed', { seed: 1 }],
    ['precision', { precision: 'f32' }],
    ['momentum', { momentum: 0.8 }],
    ['trainDigest', { data: 'digits:201' }],
    ['steps', { length: { unit: 'steps', steps: 7 } }],
    ['ratesDigest', { learningRate: 0.06 }],
    ['ratesDigest', { schedule: 'constant' }],
    ['ratesDigest', { warmUp: 0.9 }],
  ])('but not with another %s', (name, change) => {
    const other = key(change);
    expect(other[name]).not.toEqual(key()[name]);
    expect(keyDigest(other)).not.toBe(keyDigest(key()));
    expect(differenceBetween(key(), other)).toBeDefined();
  });

  test('but not with other initial weights', () => {
    const started = key({}, '0123456789abcdef');
    expect(differenceBetween(key(), started)?.is).toBe('weights 0123456789ab to start from');
    expect(keyDigest(started)).not.toBe(keyDigest(key()));
  });

  test('a key is the same after conversion to JSON and back', () => {
    expect(readKey(JSON.parse(JSON.stringify(key())))).toEqual(key());
    expect(readKey({ ...key(), topology: '9x9' })).toBeUndefined();
    expect(readKey({ ...key(), more: 1 })).toBeUndefined();
  });
});

describe('runs with data in files', () => {
  let folder = '';
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'pod-mnist-'));
    for (const copy of ['a', 'b', 'c']) writeMnist(join(folder, copy), copy === 'c' ? 7 : 0);
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  test('are the same run by the contents of the files, not by their path', () => {
    const at = (path: string): RunKey => key({ data: `mnist:${path}` });
    const plain = at(join(folder, 'a'));
    for (const path of [
      `${folder}/a/`,
      `${folder}/c/../a`,
      relative(process.cwd(), join(folder, 'a')),
      join(folder, 'b'),
    ]) {
      expect(at(path)).toEqual(plain);
    }
    expect(at(join(folder, 'c')).trainDigest).not.toBe(plain.trainDigest);
  });

  test('are the same run with other test images', () => {
    cpSync(join(folder, 'a'), join(folder, 'd'), { recursive: true });
    writeIdx(join(folder, 'd', 't10k-images-idx3-ubyte'), 3, Buffer.alloc(4 * 784, 9));
    expect(key({ data: `mnist:${join(folder, 'd')}` })).toEqual(
      key({ data: `mnist:${join(folder, 'a')}` }),
    );
  });
});

describe('limits of the number of steps', () => {
  test('epochs cannot exceed the limit of steps', () => {
    const epochs = fc.double({ min: 1e-6, max: 100_000, noNaN: true });
    const size = fc.integer({ min: 1, max: 2 ** 32 });
    const batch = fc.integer({ min: 1, max: 2 ** 20 });
    fc.assert(
      fc.property(epochs, size, batch, (count, samples, globalBatch) => {
        const run = { globalBatch, length: { unit: 'epochs', epochs: count } as const };
        try {
          const steps = totalSteps(run, samples);
          expect(steps).toBeGreaterThanOrEqual(1);
          expect(steps).toBeLessThanOrEqual(stepsMax);
          // Loaders load data for some steps after the current one. So the number of the epoch must
          // fit a u32 even 1000 steps after the last step of the run.
          expect(((steps + 1000) * globalBatch) / samples).toBeLessThan(2 ** 32);
        } catch (error) {
          expect(error).toMatchObject({ code: 'bad-flag', exitCode: 2 });
        }
      }),
    );
  });

  test.each<[TrainConfig['length'], number, number, RegExp]>([
    [{ unit: 'epochs', epochs: 43_000 }, 60_000, 256, /use at most 42666 epochs$/],
    [{ unit: 'epochs', epochs: 1 }, 2 ** 32, 8, /use at most 0.018626 epochs$/],
    [{ unit: 'steps', steps: 5000 }, 1, 2 ** 20, /at most 1000000000 passes .*, found 5242880000;/],
  ])('%j of %d images is refused', (length, size, globalBatch, message) => {
    expect(() => totalSteps({ length, globalBatch }, size)).toThrow(message);
  });
});

test('an f32 is printed as the shortest decimal number that rounds to it', () => {
  fc.assert(
    fc.property(fc.float({ noNaN: true, noDefaultInfinity: true }), (value) => {
      expect(Math.fround(Number(shortest(value)))).toBe(value + 0);
    }),
  );
  expect([0.03, 0.9, 1, 1e-7].map((it) => shortest(Math.fround(it)))).toEqual([
    ...['0.03', '0.9', '1', '1e-7'],
  ]);
});

/** Writes an MNIST folder with four training and four test images. Each pixel is `fill`. */
function writeMnist(folder: string, fill: number): void {
  mkdirSync(folder);
  for (const part of ['train', 't10k']) {
    writeIdx(join(folder, `${part}-images-idx3-ubyte`), 3, Buffer.alloc(4 * 784, fill));
    writeIdx(join(folder, `${part}-labels-idx1-ubyte`), 1, Buffer.from([1, 2, 3, 4]));
  }
}

function writeIdx(path: string, rank: number, data: Buffer): void {
  const dims = rank === 3 ? [4, 28, 28] : [4];
  const header = Buffer.alloc(4 + 4 * rank);
  header.set([0, 0, 8, rank]);
  dims.forEach((size, i) => void header.writeUInt32BE(size, 4 + 4 * i));
  writeFileSync(path, Buffer.concat([header, data]));
}
