import { flipBit, hang, kill, loseRow, pod } from 'tpu-pod/testing';
import { describe, expect, test } from 'vitest';
import 'tpu-pod/testing/vitest';

const settings = { tpus: 2, model: 'mlp', steps: 6, globalBatch: 16, evaluate: 16 } as const;

describe.each(['threads', 'processes'] as const)('in %s', (ground) => {
  test('a Cloud TPU that vanishes in the all-reduce is replaced', { timeout: 60_000 }, async () => {
    const steps: number[] = [];
    const run = await pod({ ...settings, ground })
      .inject(kill(1).at({ step: 3, phase: 'reduce-scatter', hop: 1 }))
      .onStep(({ step }) => steps.push(step))
      .train();
    expect(run).toMatchFaultFree();
    expect(run).toHaveRecovered({ withinMs: 30_000, steps: 0 });
    expect(run).toBlame(1);
    expect(run).not.toBlame(0);
    expect(steps).toEqual([1, 2, 3, 4, 5, 6]);
  });
});

test('in a simulation a row is lost, and a replacement hangs', { timeout: 60_000 }, async () => {
  const run = await pod({ topology: '3x3', model: 'mlp', steps: 4, ground: 'sim' })
    .inject(loseRow(2).at({ step: 2 }), hang(7).at({ during: 'loading', generation: 2 }))
    .expecting({ recovery: { steps: '<=1' }, sometimes: ['peer-recovery'] })
    .train();
  expect(run).toMatchFaultFree();
  expect(run).toHoldExpectations();
});

test('a plan that cannot be is refused before anything runs', async () => {
  const plan = pod({ ...settings, ground: 'sim' }).inject(
    flipBit(7, { in: 'weights' }).at({ step: 1 }),
  );
  await expect(plan.train()).rejects.toThrow(
    'pod(): faults.0.tpu: expected a Cloud TPU from 0 to 1, found 7',
  );
});
