import { describe, expect, test } from 'vitest';
import { openDataset } from '../../../src/data/open.ts';
import type { Checkpoint, Snapshot } from '../../../src/experiment/checkpoint/checkpoint.ts';
import { openCheckpoints } from '../../../src/experiment/checkpoint/checkpoints.ts';
import { type Resumable, resumedValues } from '../../../src/experiment/checkpoint/resume.ts';
import { savedConfig } from '../../../src/experiment/checkpoint/saved-run.ts';
import type { TrainConfig } from '../../../src/experiment/config.ts';
import { identityOf, type RunIdentity } from '../../../src/experiment/same-run.ts';
import { arrayShape } from '../../../src/numerics/shape.ts';
import { MemoryFiles } from './memory-files.ts';
import { config, snapshotOf } from './snapshots.ts';

const snapshot = snapshotOf(3);
const run: Resumable = { identity: identity(config), parameters: snapshot.tensors };

/**
 * Returns the identity of a run: the values that decide which run may resume from its checkpoints.
 * The run has the configuration `of` and the data set that this configuration names.
 */
function identity(of: TrainConfig, startDigest: string | null = null): RunIdentity {
  return identityOf(of, openDataset(of.data, of.seed).train, startDigest);
}

async function saved(of: Partial<Snapshot> = {}): Promise<Checkpoint> {
  const checkpoints = await openCheckpoints('dir', { keep: 1, files: new MemoryFiles() });
  await checkpoints.save({ ...snapshot, ...of });
  return (await checkpoints.latest()).checkpoint as Checkpoint;
}

/**
 * Two ways to save the same checkpoint: as this version does it, and as older versions did. Older
 * versions saved a checkpoint without the identity of the run.
 */
const versions = [
  ['this version', () => saved({ config: savedConfig(config, identity(config), 3) })],
  ['an older version', () => saved()],
] as const;

describe.each(versions)('a checkpoint of %s', (_, checkpoint) => {
  test('resumed values equal the saved ones, in the order of the parameters', async () => {
    const expected = snapshot.tensors.map(({ bytes }) => bytes);
    expect(resumedValues(await checkpoint(), run)).toEqual(expected);
  });

  test('settings that change no bit of the weights may differ, and their order does not matter', async () => {
    const { topology, ...others } = config;
    const { columns, rows } = topology;
    const same: TrainConfig = { ...others, topology: { rows, columns } };
    const changes: Partial<TrainConfig>[] = [
      { mxu: 'systolic' },
      { remat: 'never' },
      { evaluate: undefined },
      { recovery: 'replace' },
      { length: { unit: 'epochs', epochs: (6 * 8) / 200 } },
      { data: 'digits:200' },
      // The momentum is rounded to f32, in which 0.9 + 1e-12 equals 0.9.
      { momentum: 0.9 + 1e-12 },
      {},
    ];
    for (const change of changes) {
      const it = { ...run, identity: identity({ ...same, ...change }) };
      expect(resumedValues(await checkpoint(), it)).toHaveLength(4);
    }
  });

  const [kernel, bias, ...state] = snapshot.tensors;
  const elsewhere = 'or use another directory';
  const advice = `resume with the settings of the run that saved it, ${elsewhere}`;
  test.each<[string, Partial<Resumable> | Partial<TrainConfig>]>([
    [
      `has global batch 8, this run has global batch 16: resume with --global-batch 8, ${elsewhere}`,
      { globalBatch: 16 },
    ],
    [
      `has 1 Cloud TPU (1x1), this run has 2 Cloud TPUs (1x2): resume with --tpus 1, ${elsewhere}`,
      { topology: { columns: 1, rows: 2 } },
    ],
    [`has seed 0, this run has seed 1: resume with --seed 0, ${elsewhere}`, { seed: 1 }],
    [
      `has model mlp, this run has model cnn: resume with --model mlp, ${elsewhere}`,
      { model: 'cnn' },
    ],
    [
      `has momentum 0.9, this run has momentum 0.95: resume with --momentum 0.9, ${elsewhere}`,
      { momentum: 0.95 },
    ],
    [
      `has precision bf16, this run has precision f32: resume with --precision bf16, ${elsewhere}`,
      { precision: 'f32' },
    ],
    [
      `has training set digits:200 (contents ${contents('digits:200')}), this run has digits (contents ${contents('digits')}): resume with the data set of the run that saved it, ${elsewhere}`,
      { data: 'digits' },
    ],
    [`has 4 parameters, this run has 3: ${advice}`, { parameters: snapshot.tensors.slice(1) }],
    [
      `has parameter dense/bias f32[4], this run has dense/bias f32[5]: ${advice}`,
      { parameters: [kernel!, { name: 'dense/bias', shape: arrayShape('f32', [5]) }, ...state] },
    ],
    [
      `has parameter dense/kernel f32[10,4], this run has dense/bias f32[4]: ${advice}`,
      { parameters: [bias!, kernel!, ...state] },
    ],
    [
      'has 3 steps done, this run has only 2: resume with 3 steps or more',
      { length: { unit: 'steps', steps: 2 } },
    ],
  ])('another run is refused: %s', async (what, change) => {
    const other =
      'parameters' in change
        ? { ...run, ...change }
        : { ...run, identity: identity({ ...config, ...(change as Partial<TrainConfig>) }) };
    const refusing = await checkpoint();
    expect(() => resumedValues(refusing, other)).toThrow(
      expect.objectContaining({ code: 'bad-config', message: `checkpoint step-0000003 ${what}` }),
    );
  });

  test.each<[string, Partial<TrainConfig>]>([
    ['step 1 was 0.05, this run has 0.1', { learningRate: 0.1 }],
    ['step 2 was 0.046650637, this run has 0.05', { schedule: 'constant' }],
    ['step 1 was 0.05, this run has 0.016666668', { warmUp: 0.5 }],
    ['step 1 was 0.05, this run has 0.016666668', { length: { unit: 'steps', steps: 30 } }],
    [
      'step 2 was 0.046650637, this run has 0.05',
      { schedule: 'piecewise', length: { unit: 'steps', steps: 9 } },
    ],
  ])('is refused for other learning rates: the rate of %s', async (what, change) => {
    const it = { ...run, identity: identity({ ...config, ...change }) };
    const refusing = await checkpoint();
    expect(() => resumedValues(refusing, it)).toThrow(
      `checkpoint step-0000003: the learning rate of ${what}: resume with the schedule of the run that saved it; --start-from begins a new run with its weights`,
    );
  });

  test('a run with --start-from is refused over a checkpoint of a run without it', async () => {
    const it = { ...run, identity: identity(config, '0123456789abcdef') };
    const refusing = await checkpoint();
    expect(() => resumedValues(refusing, it)).toThrow(
      'has initial weights drawn from its seed, this run has weights 0123456789ab to start from',
    );
  });
});

test('a longer run or another schedule may resume if all done steps had the same learning rates', async () => {
  const constant: TrainConfig = { ...config, schedule: 'constant', warmUp: 0 };
  const marked = await saved({ config: savedConfig(constant, identity(constant), 3) });
  const alike: Partial<TrainConfig>[] = [
    { length: { unit: 'steps', steps: 60 } },
    { length: { unit: 'steps', steps: 3 } },
    { schedule: 'linear-scaling', learningRate: 0.05 * 32 },
    // In the piecewise schedule, the first three of the nine steps have the full rate. The
    // checkpoint has three completed steps, so they had the same rates as in the constant schedule.
    { schedule: 'piecewise', length: { unit: 'steps', steps: 9 } },
  ];
  for (const change of alike) {
    const it = { ...run, identity: identity({ ...constant, ...change }) };
    expect(resumedValues(marked, it)).toHaveLength(4);
  }
});

test('learning rates that another version computed differently are found by their digest', async () => {
  const { run: mark, ...rest } = savedConfig(config, identity(config), 3);
  const other = await saved({ config: { ...rest, run: { ...mark!, ratesDigest: 'ab' } } });
  expect(() => resumedValues(other, run)).toThrow(
    'its 3 steps had learning rates that this version of pod does not reproduce',
  );
});

test('unknown settings of a newer version are refused', async () => {
  const newer = { ...config, optimizer: 'lars' };
  const other = await saved({ config: newer });
  expect(() => resumedValues(other, run)).toThrow(
    /^checkpoint step-0000003 has settings that this version of pod does not know \(.*optimizer.*\)/,
  );
});

test('a checkpoint of an older version without a data digest is matched by the name of its data', async () => {
  const older = await saved({ config: { ...config, data: 'mnist:/then' } });
  const now = { ...run.identity, data: 'mnist:/then' };
  expect(resumedValues(older, { ...run, identity: now })).toHaveLength(4);
  const elsewhere = { ...now, data: 'mnist:/now' };
  expect(() => resumedValues(older, { ...run, identity: elsewhere })).toThrow(
    /has training set mnist:\/then \(contents not recorded by the version that saved it\), this run has mnist:\/now/,
  );
});

function contents(data: string): string {
  return openDataset(data, 0).train.digest().slice(0, 12);
}
