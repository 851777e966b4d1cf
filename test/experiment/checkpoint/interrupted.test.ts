import { describe, expect, test } from 'vitest';
import type { Checkpoint, Snapshot } from '../../../src/experiment/checkpoint/checkpoint.ts';
import {
  type Checkpoints,
  type CheckpointsOptions,
  type Latest,
  openCheckpoints,
} from '../../../src/experiment/checkpoint/checkpoints.ts';
import { PodError } from '../../../src/numerics/error.ts';
import {
  afterPowerLoss,
  allSurvives,
  type Fault,
  type MemoryFile,
  MemoryFiles,
  Stopped,
  type Survival,
} from './memory-files.ts';
import { snapshotOf } from './snapshots.ts';

/**
 * Describes a directory with some checkpoints, and one save into this directory. Tests interrupt
 * the save at each of its operations.
 */
interface Scene {
  readonly name: string;
  readonly keep: number;
  /** Makes the checkpoints that exist before the save. */
  readonly before: (files: MemoryFiles) => Promise<void>;
  /** Step that is saved. */
  readonly saved: number;
  /**
   * Step of the newest good checkpoint before the save; undefined if there is none. After an
   * interrupted save, either this checkpoint or the saved one must load.
   */
  readonly old: number | undefined;
}

const directory = 'runs/checkpoints';

const scenes: readonly Scene[] = [
  { name: 'the first save', keep: 2, before: async () => {}, saved: 3, old: undefined },
  { name: 'a save that keeps one', keep: 1, before: saves(1, 1, 2), saved: 3, old: 2 },
  { name: 'a save that keeps two of three', keep: 2, before: saves(3, 1, 2), saved: 3, old: 2 },
  { name: 'a save beside a bad one of the same step', keep: 2, before: oneBad, saved: 3, old: 2 },
  {
    name: 'a save beside a good one of the same step',
    keep: 2,
    before: saves(2, 3),
    saved: 3,
    old: 3,
  },
];

describe.each(scenes)('$name', (scene) => {
  test('loads the saved checkpoint if undisturbed', async () => {
    const files = await prepared(scene);
    expect(await attemptSave(files, scene)).toBe('saved');
    const { checkpoint, refused } = await reopened(files, scene);
    expectSame(checkpoint, snapshotOf(scene.saved));
    expect(refused).toEqual([]);
  });

  test('killed at every operation, the old or the new checkpoint loads', async () => {
    for (const partial of [false, true]) {
      const outcomes = await enumerated(
        scene,
        (at) => ({ kind: 'stop', at, partial }),
        survivals([allSurvives]),
      );
      expect(outcomes).toContain(scene.old);
      expect(outcomes).toContain(scene.saved);
    }
  });

  test('power lost at every operation, with any part of the unsynced data left', async () => {
    const outcomes = await enumerated(
      scene,
      (at) => ({ kind: 'stop', at, partial: true }),
      survivals(powerLosses(scene)),
    );
    expect(outcomes).toContain(scene.old);
    expect(outcomes).toContain(scene.saved);
  });

  test('killed at every operation, and again at every operation of clearing up', async () => {
    const count = await operationsOf(scene);
    for (let at = 0; at < count; at++) {
      for (let again = 0; ; again++) {
        const files = await prepared(scene);
        files.fault = { kind: 'stop', at };
        await attemptSave(files, scene);
        files.operations.length = 0;
        files.fault = { kind: 'stop', at: again };
        const opening = begun({ keep: scene.keep, files });
        const stopped = await opening.then(() => false, isStopped);
        const { checkpoint } = await reopened(files, scene);
        expect([scene.old, scene.saved]).toContain(checkpoint?.manifest.step);
        if (!stopped) break;
      }
    }
  });

  test('the disk full from every operation on: an error of one line', async () => {
    await enumerated(scene, (at) => ({ kind: 'full', at }), survivals([allSurvives]));
  });

  test.each(['EIO', 'ENOSPC'])('%s once, at every operation', async (code) => {
    await enumerated(scene, (at) => ({ kind: 'error', at, code }), survivals([allSurvives]));
  });

  test('after a failure at every operation no draft is left, and the next save works', async () => {
    const count = await operationsOf(scene);
    for (let at = 0; at < count; at++) {
      const files = await prepared(scene);
      const checkpoints = await begun({ keep: scene.keep, files });
      files.operations.length = 0;
      files.fault = { kind: 'error', at, code: 'EIO' };
      await checkpoints.save(snapshotOf(scene.saved)).catch(onlyPodErrors);
      files.fault = undefined;
      const { checkpoint } = await checkpoints.latest();
      expect([scene.old, scene.saved], files.operations[at]).toContain(checkpoint?.manifest.step);
      const names = await files.readDirectory(directory);
      expect(names.filter((it) => it.startsWith('.partial-'))).toEqual([]);
      await checkpoints.save(snapshotOf(scene.saved + 1));
      expectSame((await checkpoints.latest()).checkpoint, snapshotOf(scene.saved + 1));
    }
  });
});

test('partial writes of a few bytes save the same checkpoint', async () => {
  const files = new MemoryFiles();
  files.writeBytesMax = 7;
  const checkpoints = await begun({ keep: 1, files });
  await checkpoints.save(snapshotOf(5));
  expectSame((await checkpoints.latest()).checkpoint, snapshotOf(5));
});

test('rotation keeps the newest good checkpoints and never deletes bad ones', async () => {
  const files = new MemoryFiles();
  const checkpoints = await begun({ keep: 2, files });
  for (const step of [1, 2, 3]) await checkpoints.save(snapshotOf(step));
  expect(await checkpoints.list()).toEqual(['step-0000003', 'step-0000002']);
  spoil(files, 3);
  const again = await begun({ keep: 2, files });
  await again.save(snapshotOf(4));
  expect(await again.list()).toEqual(['step-0000004', 'step-0000003', 'step-0000002']);
  await again.save(snapshotOf(5));
  expect(await again.list()).toEqual(['step-0000005', 'step-0000004', 'step-0000003']);
});

test('whole checkpoints of another run are never deleted', async () => {
  const files = new MemoryFiles();
  const checkpoints = await openCheckpoints(directory, { keep: 1, files });
  const other = snapshotOf(2);
  await checkpoints.save({ ...other, config: { ...other.config, seed: 7 } });
  for (const step of [1, 3, 4]) await checkpoints.save(snapshotOf(step));
  expect(await checkpoints.list()).toEqual(['step-0000004', 'step-0000002']);
});

test('a directory that cannot be written to is refused at once in one line', async () => {
  for (const code of ['EACCES', 'EROFS']) {
    const files = new MemoryFiles();
    await begun({ keep: 1, files });
    const count = files.operations.length;
    const fault: Fault = { kind: 'error', at: count + 1, code };
    files.fault = fault;
    const opening = begun({ keep: 1, files });
    await expect(opening).rejects.toMatchObject({ code: 'io' });
    await expect(opening).rejects.toThrow(/^runs\/checkpoints: could not be made ready .*E/);
  }
});

/** Opens the directory of checkpoints for a run that will write to it. */
async function begun(options: CheckpointsOptions): Promise<Checkpoints> {
  const checkpoints = await openCheckpoints(directory, options);
  await checkpoints.begin();
  return checkpoints;
}

/**
 * Repeats a save and interrupts it each time at another operation. After each interruption, calls
 * every function in `aftermaths`. Such a function returns the files that are left, for example
 * after a loss of power. From these files the old or the new checkpoint must load. Returns the step
 * of each checkpoint that has loaded.
 */
async function enumerated(
  scene: Scene,
  faultAt: (at: number) => Fault,
  aftermaths: readonly ((files: MemoryFiles) => MemoryFiles)[],
): Promise<(number | undefined)[]> {
  const count = await operationsOf(scene);
  const outcomes: (number | undefined)[] = [];
  // The save has `count` operations, from 0. So in the last round, with `at` = `count`, no
  // operation is interrupted.
  for (let at = 0; at <= count; at++) {
    const files = await prepared(scene);
    files.fault = faultAt(at);
    const end = await attemptSave(files, scene);
    for (const aftermath of aftermaths) {
      const { checkpoint, refused } = await reopened(aftermath(files), scene);
      const step = checkpoint?.manifest.step;
      const where = `${at}: ${files.operations[at]}, ${end}`;
      expect([scene.old, scene.saved], where).toContain(step);
      if (end === 'saved') expect(step, where).toBe(scene.saved);
      if (checkpoint !== undefined) expectSame(checkpoint, snapshotOf(step ?? 0));
      if (scene.before !== oneBad) expect(refused, where).toEqual([]);
      outcomes.push(step);
    }
  }
  return outcomes;
}

function survivals(each: readonly Survival[]): ((files: MemoryFiles) => MemoryFiles)[] {
  return each.map((it) => (files) => new MemoryFiles(afterPowerLoss(files.root, it)));
}

/**
 * Returns what can be left after a loss of power. In each directory, either only the synced names
 * are left, or all names. Of the unsynced bytes of all files, none are left, half, or all. The
 * result has every combination of these choices.
 */
function powerLosses({ before, old, saved }: Scene): Survival[] {
  const isTaken = before === oneBad || old === saved;
  const name = `step-000000${saved}${isTaken ? '.1' : ''}`;
  const parts = ['checkpoints', `/.partial-${name}`, `/${name}`];
  const losses: Survival[] = [];
  for (const bytes of ['synced', 'half', 'all'] as const) {
    for (let choice = 0; choice < 1 << parts.length; choice++) {
      const kept = parts.filter((_, i) => (choice >> i) & 1);
      const names = (path: string): 'synced' | 'all' =>
        kept.some((part) => path.endsWith(part)) ? 'all' : 'synced';
      losses.push({ names, bytes });
    }
  }
  return losses;
}

async function prepared(scene: Scene): Promise<MemoryFiles> {
  const files = new MemoryFiles();
  await scene.before(files);
  // `begun` already makes the directory ready for the save. The list of operations is emptied after
  // that, so that it will have only operations of the save.
  await begun({ keep: scene.keep, files });
  files.operations.length = 0;
  return files;
}

function saves(keep: number, ...steps: readonly number[]): Scene['before'] {
  return async (files) => {
    const checkpoints = await begun({ keep, files });
    for (const step of steps) await checkpoints.save(snapshotOf(step));
  };
}

async function oneBad(files: MemoryFiles): Promise<void> {
  await saves(2, 2, 3)(files);
  spoil(files, 3);
}

function spoil(files: MemoryFiles, step: number): void {
  const file = files.node(`${directory}/step-000000${step}/weights.safetensors`) as MemoryFile;
  file.bytes = file.bytes.map((byte, i) => (i === 300 ? byte ^ 1 : byte));
  file.durable = file.bytes;
}

async function operationsOf(scene: Scene): Promise<number> {
  const files = await prepared(scene);
  expect(await attemptSave(files, scene)).toBe('saved');
  expect(files.operations.length).toBeGreaterThan(15);
  return files.operations.length;
}

async function attemptSave(
  files: MemoryFiles,
  { keep, saved }: Scene,
): Promise<'saved' | 'stopped' | 'failed'> {
  const { fault } = files;
  files.fault = undefined;
  const checkpoints = await begun({ keep, files });
  files.operations.length = 0;
  files.fault = fault;
  try {
    await checkpoints.save(snapshotOf(saved));
    return 'saved';
  } catch (error) {
    if (error instanceof Stopped) return 'stopped';
    onlyPodErrors(error);
    return 'failed';
  }
}

function isStopped(error: unknown): boolean {
  if (error instanceof Stopped) return true;
  throw error;
}

function onlyPodErrors(error: unknown): void {
  if (!(error instanceof PodError)) throw error;
  expect(error.code).toBe('io');
  expect(error.message).toMatch(/^(checkpoint step-|an old checkpoint ).*: E[A-Z]+: [^\n]*$/);
}

/** Ends the fault, and reads the newest good checkpoint as the next process would read it. */
async function reopened(files: MemoryFiles, { keep }: Scene): Promise<Latest> {
  files.fault = undefined;
  return (await openCheckpoints(directory, { keep, files })).latest();
}

function expectSame(checkpoint: Checkpoint | undefined, snapshot: Snapshot): void {
  const { tensors, config, weights, ...rest } = snapshot;
  expect(checkpoint?.manifest).toMatchObject({ ...rest, weights });
  expect(checkpoint?.manifest.config).toEqual(config);
  expect(checkpoint?.tensors).toEqual(tensors);
}
