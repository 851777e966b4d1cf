import { expect, test } from 'vitest';
import type { Checkpoint } from '../../../src/experiment/checkpoint/checkpoint.ts';
import { openCheckpoints } from '../../../src/experiment/checkpoint/checkpoints.ts';
import { type Resumable, resumedValues } from '../../../src/experiment/checkpoint/resume.ts';
import type { TrainConfig } from '../../../src/experiment/config.ts';
import { arrayShape } from '../../../src/numerics/shape.ts';
import { MemoryFiles } from './memory-files.ts';
import { config, snapshotOf } from './snapshots.ts';

const snapshot = snapshotOf(3);
const run: Resumable = {
  config,
  trainSamples: snapshot.trainSamples,
  parameters: snapshot.tensors,
};

async function saved(): Promise<Checkpoint> {
  const checkpoints = await openCheckpoints('dir', { keep: 1, files: new MemoryFiles() });
  await checkpoints.save(snapshot);
  return (await checkpoints.latest()).checkpoint as Checkpoint;
}

test('the values are those that were saved, in the order of the parameters', async () => {
  const expected = snapshot.tensors.map(({ bytes }) => bytes);
  expect(resumedValues(await saved(), run)).toEqual(expected);
});

test('what changes no bit of the weights may change; the order of settings is nothing', async () => {
  const { topology, ...others } = config;
  const { columns, rows } = topology;
  const same: TrainConfig = { ...others, topology: { rows, columns } };
  for (const change of [{ mxu: 'systolic' as const }, { evaluate: undefined }, {}]) {
    const it = { ...run, config: { ...same, ...change } };
    expect(resumedValues(await saved(), it)).toHaveLength(4);
  }
});

const [kernel, bias, ...state] = snapshot.tensors;
test.each<[string, Partial<Resumable>]>([
  ['globalBatch 8, this run has 16', { config: { ...config, globalBatch: 16 } }],
  ['learningRate 0.05, this run has 0.1', { config: { ...config, learningRate: 0.1 } }],
  ['data "digits:200", this run has "digits"', { config: { ...config, data: 'digits' } }],
  ['topology.rows 1, this run has 2', { config: { ...config, topology: { columns: 1, rows: 2 } } }],
  [
    'length.unit "steps", this run has "epochs"',
    { config: { ...config, length: { unit: 'epochs', epochs: 6 } } },
  ],
  ['200 training samples, this run has 100', { trainSamples: 100 }],
  ['4 parameters, this run has 3', { parameters: snapshot.tensors.slice(1) }],
  [
    'parameter dense/bias f32[4], this run has dense/bias f32[5]',
    { parameters: [kernel!, { name: 'dense/bias', shape: arrayShape('f32', [5]) }, ...state] },
  ],
  [
    'parameter dense/kernel f32[10,4], this run has dense/bias f32[4]',
    { parameters: [bias!, kernel!, ...state] },
  ],
])('another run is refused: %s', async (what, change) => {
  const checkpoint = await saved();
  const advice = 'resume with the settings of then, or use another directory';
  expect(() => resumedValues(checkpoint, { ...run, ...change })).toThrow(
    expect.objectContaining({
      code: 'bad-config',
      message: `checkpoint step-0000003 has ${what}: ${advice}`,
    }),
  );
});
