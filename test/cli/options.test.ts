import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type RawOptions, trainOptions } from '../../src/cli/options.ts';
import { takeFolder } from '../../src/cli/pod-folder.ts';
import { replicas } from '../../src/experiment/config.ts';
import { PodError } from '../../src/numerics/error.ts';

test('the default is model cnn on data digits on eight Cloud TPUs', () => {
  expect(trainOptions({}).config).toMatchObject({
    topology: { columns: 4, rows: 2 },
    model: 'cnn',
    data: 'digits',
    globalBatch: 256,
    length: { unit: 'steps', steps: 100 },
    seed: 0,
    precision: 'bf16',
    mxu: 'fast',
    remat: 'auto',
  });
});

test('~ at the beginning of a path is refused with advice before a folder of that name is made', async () => {
  const advice = /expected .*the shell does not expand ~ here: write \$HOME/;
  for (const checkpoint of ['~', '~/ck', '~me/ck']) {
    expect(() => trainOptions({ checkpoint })).toThrow(advice);
    expect(() => trainOptions({ startFrom: checkpoint })).toThrow(advice);
    expect(() => trainOptions({ config: yaml(`checkpoint: ${checkpoint}0\n`) })).toThrow(
      /^checkpoint in .*: expected .*does not expand ~/,
    );
  }
  expect(() => trainOptions({ config: '~/run.yaml' })).toThrow(advice);
  expect(trainOptions({ checkpoint: './~' }).checkpoint?.directory).toBe('./~');
  const asked = { controlPort: 1, apiPort: 1, tpus: 1, args: '', serve: false };
  const place = { dir: '~/p', folder: '/none', asked, check: async () => {} };
  await expect(takeFolder(place)).rejects.toThrow(advice);
});

test('every number of Cloud TPUs has a default global batch that its replicas share evenly', () => {
  for (const tpus of ['1', '2', '4', '8', '16', '32', '64']) {
    const { config } = trainOptions({ tpus });
    expect(replicas(config)).toBe(8 * Number(tpus));
    expect(config.globalBatch % replicas(config)).toBe(0);
  }
});

test('flags win over the file, and a file may have kebab-case or camelCase keys', () => {
  const file = yaml('model: mlp\nglobal-batch: 512\nlearningRate: 0.2\nseed: 3\n');
  expect(trainOptions({ config: file, seed: '4' }).config).toMatchObject({
    model: 'mlp',
    globalBatch: 512,
    learningRate: 0.2,
    seed: 4,
  });
});

test.each<[RawOptions, RegExp]>([
  [{ tpus: '3' }, /3 Cloud TPUs: expected one of 1, 2, 4, 8, 16, 32, 64/],
  [{ tpus: 'many' }, /--tpus: expected a whole number, found "many"/],
  [{ tpus: '' }, /--tpus: expected a whole number, found ""/],
  [{ tpus: '8.5' }, /--tpus: expected a whole number, found "8.5"/],
  [{ tpus: '8', topology: '2x2' }, /--tpus: expected 4, .*found 8/],
  [{ topology: '9x1' }, /1 to 8 columns/],
  [{ topology: '4' }, /expected columns x rows/],
  [{ model: 'vgg' }, /--model: expected one of mlp, cnn, found "vgg"/],
  [{ globalBatch: '100' }, /--global-batch: expected a multiple of 64 .*found 100; try 128/],
  [{ globalBatch: '1' }, /--global-batch: expected a multiple of 64 .*found 1; try 64/],
  [{ steps: '0' }, /--steps: expected at least 1, found "0"/],
  [{ steps: '5', epochs: '1' }, /--steps and --epochs: expected one of the two/],
  [{ learningRate: 'NaN' }, /--learning-rate: expected a number/],
  [{ learningRate: '-1' }, /--learning-rate: expected at least 0/],
  [{ learningRate: 'Infinity' }, /--learning-rate: expected a number/],
  [{ seed: '-1' }, /--seed: expected at least 0/],
  [{ mxu: 'quick' }, /--mxu: expected one of fast, systolic, found "quick"/],
  [{ precision: 'f16' }, /--precision: expected one of bf16, f32/],
  [{ report: 'no/such/folder/r.json' }, /--report: expected a file in an existing folder/],
  [{ log: tmpdir() }, /--log: expected a file, found the folder/],
  [{ config: 'no-such.yaml' }, /--config no-such.yaml: expected a YAML file/],
  [{ config: yaml('model: [unclosed') }, /expected YAML/],
  [{ config: yaml('- a list') }, /expected settings such as/],
  [{ config: yaml('modell: cnn') }, /modell in .*: there is no such setting/],
  [{ config: yaml('globalBatch: big') }, /globalBatch in .*: expected a whole number, found "big"/],
  [{ config: yaml('') }, /expected settings/],
])('%j is refused in one line', (flags, message) => {
  const error = refusal(flags);
  expect(error.message).toMatch(message);
  expect(error.message).not.toContain('\n');
  expect(error.exitCode).toBe(2);
});

test('the default global batch splits evenly over the replicas of any grid', () => {
  const side = fc.integer({ min: 1, max: 8 });
  fc.assert(
    fc.property(side, side, (columns, rows) => {
      const { config } = trainOptions({ topology: `${columns}x${rows}` });
      expect(config.globalBatch % replicas(config)).toBe(0);
      expect(config.globalBatch).toBeGreaterThanOrEqual(256);
    }),
  );
});

test.each<[RawOptions, RegExp]>([
  [
    { epochs: '43000' },
    /^43000 epochs .* expected at most 10000000 steps, .* at most 42666 epochs/,
  ],
  [
    { epochs: '1', data: 'digits:4294967296', globalBatch: '64' },
    /expected at most 10000000 steps/,
  ],
  [{ steps: '5000', data: 'digits:1', globalBatch: '1048576' }, /at most 1000000000 passes over/],
  [
    { topology: '3x1', globalBatch: '256' },
    /^--global-batch: expected a multiple of 24 .* try 264/,
  ],
  [{ tpus: '12' }, /^--tpus: 12 Cloud TPUs: expected one of/],
  [{ startFrom: '' }, /^--start-from: expected some text, found ""/],
  [{ data: 'mnist:' }, /^--data: expected one of digits, digits:SIZE, mnist:DIR, found "mnist:"/],
  [{ checkpoint: 'a\0b' }, /^--checkpoint: expected text without a NUL character/],
])('%j is refused with a message that names only given settings', (flags, message) => {
  expect(refusal(flags).message).toMatch(message);
  expect(refusal(flags).exitCode).toBe(2);
});

test('-0 is read as 0', () => {
  const { config } = trainOptions({ learningRate: '-0', momentum: '-0' });
  expect([config.learningRate, config.momentum]).toEqual([0, 0]);
});

test('any flags give a configuration or a PodError', () => {
  const keys = [
    'tpus',
    'topology',
    'model',
    'globalBatch',
    'steps',
    'epochs',
    'seed',
    'mxu',
    'warmUp',
  ];
  const value = fc.oneof(
    fc.string(),
    fc.nat(100).map(String),
    fc.constantFrom('2x2', 'mlp', '-0', '1e3'),
  );
  fc.assert(
    fc.property(fc.dictionary(fc.constantFrom(...keys), value), (flags) => {
      try {
        const { config } = trainOptions(flags);
        expect(config.globalBatch % replicas(config)).toBe(0);
      } catch (error) {
        if (!(error instanceof PodError)) throw error;
        expect(error.exitCode).toBe(2);
      }
    }),
  );
});

function refusal(flags: RawOptions): PodError {
  try {
    trainOptions(flags);
  } catch (error) {
    if (error instanceof PodError) return error;
    throw error;
  }
  throw new Error('nothing was refused');
}

function yaml(text: string): string {
  const file = join(mkdtempSync(join(tmpdir(), 'pod-')), 'run.yaml');
  writeFileSync(file, text);
  return file;
}
