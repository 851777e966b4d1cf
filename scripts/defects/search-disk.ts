import {
  olderCheckpointDeleted,
  secondMasterUnnoticed,
  toldBeforeCommit,
  tornCommit,
  unsyncedCheckpointFile,
  unsyncedCheckpointNames,
  unsyncedLog,
  unsyncedRename,
} from './changes.ts';
import type { Change } from './defect.ts';

const log = 'cluster/master/commit-log.ts';
const checkpoints = 'src/experiment/checkpoint/checkpoints.ts';
const keeper = 'src/experiment/checkpoint/keeper.ts';

/** Defects of masters, of the commit log and of checkpoints that the search must find. */
export const diskSearchDefects: readonly Change[] = [
  { name: 'step told before its commit', ...toldBeforeCommit },
  { name: 'commit log not synced', ...unsyncedLog },
  {
    name: 'name of the commit log not synced',
    guarantee: 'A new commit log survives a loss of power.',
    file: log,
    from: '    if (file.size() === 0) files.syncDirectory(dirname(path));',
    to: '    if (file.size() < 0) files.syncDirectory(dirname(path));',
  },
  { name: 'torn record taken for a commit', ...tornCommit },
  { name: 'superseded master goes on', ...secondMasterUnnoticed },
  { name: 'file of a checkpoint not synced', ...unsyncedCheckpointFile },
  { name: 'directory of a checkpoint not synced', ...unsyncedCheckpointNames },
  { name: 'rename of a checkpoint not synced', ...unsyncedRename },
  { name: 'older checkpoint not kept', ...olderCheckpointDeleted },
  {
    name: 'old checkpoints deleted before the new one is written',
    guarantee: 'Old checkpoints are deleted after the new one is on the disk.',
    file: checkpoints,
    from: '    const name = await this.#freeName(snapshot.step);\n',
    to:
      '    const name = await this.#freeName(snapshot.step);\n' +
      '    for (const old of (await this.list()).slice(this.#keep - 1)) await this.#removeOurs(old);\n',
  },
  {
    name: 'checkpoint of another step',
    guarantee: 'After a return to a checkpoint the run goes on from the step of the checkpoint.',
    file: keeper,
    from: '      return { parameters: { steps: step, values: resumedValues(checkpoint, run) }, refused };',
    to: '      return { parameters: { steps, values: resumedValues(checkpoint, run) }, refused };',
  },
  {
    name: 'swallowed error of a checkpoint',
    guarantee: 'A run whose last checkpoint could not be saved is not done.',
    file: keeper,
    from: '      this.#lastFailure = failed ? event.reason : undefined;\n',
    to: '',
  },
  {
    name: 'checkpoint that a lost master owed',
    guarantee:
      'A master saves the checkpoint that is due and that the master before it did not save.',
    file: 'src/experiment/train.ts',
    from: '  else if (keeper) await saveUnsaved(',
    to: '  else if (keeper && run.steps < 0) await saveUnsaved(',
  },
];
