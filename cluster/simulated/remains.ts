import { listCheckpoints, newestWhole } from '../../src/experiment/checkpoint/checkpoints.ts';
import type { RunKey } from '../../src/experiment/same-run.ts';
import type { StepValues } from '../../src/fault/differences.ts';
import type { Remains } from '../../src/fault/kept.ts';
import { openCommitLog } from '../master/commit-log.ts';
import { Agenda } from './agenda.ts';
import { Disk } from './disk.ts';
import type { DiskTree } from './disk-tree.ts';
import { paths } from './paths.ts';
import { Process } from './process.ts';
import { Waiting } from './waiting.ts';

/**
 * Reads what a run has left on a disk, with the code by which a master reads it. `key` identifies
 * the run. The reader has an agenda of its own, because the simulation is over.
 */
export async function remainsOn(tree: DiskTree, key: RunKey): Promise<Remains> {
  const agenda = new Agenda();
  const waiting = new Waiting(agenda);
  const touch = (): void => waiting.touch();
  const world = {
    ...{ step: () => 0, nowMs: () => agenda.nowMs, touch },
    ...{ time: { least: 1, spread: 0 }, random: () => 0 },
    ...{ lostPower: () => undefined, damaged: () => undefined },
  };
  const disk = new Disk(world, paths.checkpoints, tree);
  const process = new Process(agenda, touch);
  const log = openCommitLog(paths.log, key, disk.commitFilesOf(process)).past().history;
  const checkpoint = await waiting.until(newestOn(disk, process));
  return { log: log.map(valuesOf), checkpoint };
}

async function newestOn(disk: Disk, process: Process): Promise<StepValues | undefined> {
  const files = disk.filesOf(process);
  if ((await files.kindOf(paths.checkpoints)) === undefined) return undefined;
  const list = (): Promise<readonly string[]> => listCheckpoints(paths.checkpoints, files);
  const { checkpoint } = await newestWhole(paths.checkpoints, list, files);
  if (checkpoint === undefined) return undefined;
  const { step, weightsDigest: digest, loss } = checkpoint.manifest;
  return { step, digest, loss };
}

function valuesOf({ step, digest, loss }: StepValues): StepValues {
  return { step, digest, loss };
}
