import { expect, test } from 'vitest';
import { BackgroundSaver } from '../../../src/experiment/checkpoint/background.ts';
import type { Checkpoints, Saved } from '../../../src/experiment/checkpoint/checkpoints.ts';
import { AssertionError } from '../../../src/numerics/assert.ts';
import { PodError } from '../../../src/numerics/error.ts';
import { snapshotOf } from './snapshots.ts';

/** Stands in for a directory of checkpoints. A save does not end until the test calls `finish`. */
class SlowDisk implements Checkpoints {
  readonly begun: number[] = [];
  finish: (error?: Error) => void = () => {};

  list = async (): Promise<string[]> => [];
  has = async (): Promise<boolean> => false;
  begin = async (): Promise<void> => undefined;
  close = (): void => undefined;
  latest = async (): Promise<{ checkpoint: undefined; refused: [] }> => {
    return { checkpoint: undefined, refused: [] };
  };
  save({ step }: { readonly step: number }): Promise<Saved> {
    this.begun.push(step);
    return new Promise((resolve, reject) => {
      this.finish = (error) => (error ? reject(error) : resolve({ name: `${step}`, bytes: step }));
    });
  }
}

/** Waits until the callbacks of all promises that have settled so far have run. */
async function turn(): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve));
}

test('one save runs at a time; only the newest waiting snapshot is saved after it', async () => {
  const disk = new SlowDisk();
  let now = 0;
  const saver = new BackgroundSaver(disk, () => now);
  for (const step of [1, 2, 3]) saver.save(snapshotOf(step));
  expect(disk.begun).toEqual([1]);
  expect(saver.takeEvents()).toEqual([]);
  now = 5;
  disk.finish();
  await turn();
  expect(disk.begun).toEqual([1, 3]);
  expect(saver.takeEvents()).toEqual([
    { kind: 'checkpoint', step: 1, name: '1', bytes: 1, wallMs: 5 },
  ]);
  expect(saver.takeEvents()).toEqual([]);

  let settled = false;
  const settling = saver.settled().then(() => {
    settled = true;
  });
  await turn();
  expect(settled).toBe(false);
  disk.finish();
  await settling;
  expect(saver.takeEvents()).toMatchObject([{ step: 3 }]);
  saver.save(snapshotOf(4));
  expect(disk.begun).toEqual([1, 3, 4]);
});

test('a failed save is reported as an event, and the next snapshot is saved', async () => {
  const disk = new SlowDisk();
  const saver = new BackgroundSaver(disk, () => 0);
  saver.save(snapshotOf(1));
  saver.save(snapshotOf(2));
  disk.finish(new PodError('io', 'the disk is full'));
  await turn();
  expect(saver.takeEvents()).toEqual([
    { kind: 'checkpoint-failed', step: 1, reason: 'the disk is full' },
  ]);
  expect(disk.begun).toEqual([1, 2]);
});

test('an assertion that fails in a save is thrown by the next takeEvents', async () => {
  const disk = new SlowDisk();
  const saver = new BackgroundSaver(disk, () => 0);
  saver.save(snapshotOf(1));
  disk.finish(new AssertionError('planted'));
  await saver.settled();
  expect(() => saver.takeEvents()).toThrow('planted');
});
