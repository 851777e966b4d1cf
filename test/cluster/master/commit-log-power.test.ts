import fc from 'fast-check';
import { expect, test } from 'vitest';
import { openCommitLog } from '../../../cluster/master/commit-log.ts';
import type { StepCommitted } from '../../../src/experiment/event.ts';
import {
  afterPowerLoss,
  allSurvives,
  emptyDirectory,
  type MemoryDirectory,
  Stopped,
  type Survival,
} from '../../experiment/checkpoint/memory-files.ts';
import { MemoryCommitFiles } from './memory-commit-files.ts';

const path = 'run/deep/commits.jsonl';
const key = { model: 'mlp' };

/**
 * Life of one master. It commits steps until its process is stopped. The stop comes just before the
 * operation with the index `stopAt` among the operations that change a file or folder. Then the
 * machine loses power. `survival` says which changes are still on disk after that.
 */
interface Life {
  readonly stopAt: number;
  readonly survival: Survival;
}

const survival: fc.Arbitrary<Survival> = fc.oneof(
  fc.constant(allSurvives),
  fc.record({
    names: fc.constantFrom<Survival['names']>(
      () => 'synced',
      () => 'all',
    ),
    bytes: fc.constantFrom<Survival['bytes']>('synced', 'half', 'all'),
  }),
);
const life: fc.Arbitrary<Life> = fc.record({ stopAt: fc.nat(24), survival });

test('a committed step is in the log after any crash of the master and any loss of power', () => {
  fc.assert(
    fc.property(fc.array(life, { minLength: 1, maxLength: 5 }), (lives) => {
      let disk: MemoryDirectory = emptyDirectory();
      let acknowledged = 0;
      for (const { stopAt, survival: kept } of lives) {
        acknowledged = liveOn(new MemoryCommitFiles(disk, stopAt), acknowledged);
        disk = afterPowerLoss(disk, kept);
      }
      expectCommitted(new MemoryCommitFiles(disk), acknowledged);
    }),
    { numRuns: 300, examples: everyEnd() },
  );
});

/**
 * Returns one case for each of the first 25 file operations of a master. In each case the process
 * is stopped just before this operation. After the loss of power only synced data are on disk.
 */
function everyEnd(): [Life[]][] {
  const lost: Survival = { names: () => 'synced', bytes: 'synced' };
  return Array.from({ length: 25 }, (_, stopAt) => [[{ stopAt, survival: lost }]]);
}

/**
 * Opens the log as the next master and checks that it has the first `before` steps, which earlier
 * masters have committed. Then commits further steps until the process is stopped. Returns the
 * number of the last step that must be in the log from now on.
 */
function liveOn(files: MemoryCommitFiles, before: number): number {
  let acknowledged = before;
  try {
    const log = openCommitLog(path, key, files);
    acknowledged = checkPast(log.past().history, before);
    log.beginGeneration(log.past().generation + 1);
    for (;;) {
      log.commit(stepAt(acknowledged + 1), log.past().generation + 1);
      acknowledged++;
    }
  } catch (error) {
    if (!isStop(error)) throw error;
    return acknowledged;
  }
}

function expectCommitted(files: MemoryCommitFiles, acknowledged: number): void {
  checkPast(openCommitLog(path, key, files).past().history, acknowledged);
}

/**
 * Expects the history to have all acknowledged steps, that is, steps whose commit has returned. The
 * history may have one step more: a step that was written before the stop, but not acknowledged.
 * Returns the number of steps in the history.
 */
function checkPast(history: readonly StepCommitted[], acknowledged: number): number {
  expect([acknowledged, acknowledged + 1]).toContain(history.length);
  expect(history.map(({ step }) => step)).toEqual(history.map((_, i) => i + 1));
  return history.length;
}

function isStop(error: unknown): boolean {
  return error instanceof Stopped || (error instanceof Error && error.cause instanceof Stopped);
}

function stepAt(step: number): StepCommitted {
  return {
    ...{ kind: 'step', step, steps: 99, epoch: step / 7, loss: 1 / step },
    ...{ accuracy: 0.25, learningRate: 0.1, digest: `${step}`.padStart(16, '0') },
    ...{ wallMs: 12.5, imagesPerSecond: 1e4 / 3 },
    phaseMs: { infeed: 0, compute: 1, 'all-reduce': 2, update: 3, outfeed: 4, commit: 5 },
  };
}
