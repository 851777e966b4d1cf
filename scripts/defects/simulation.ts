import {
  commitWithoutAgreement,
  corruptPayload,
  olderCheckpointDeleted,
  oldWeightsInEvaluation,
  rollbackThatKeepsCount,
  secondMasterUnnoticed,
  toldBeforeCommit,
  tornCommit,
  unsyncedLog,
  unsyncedRename,
} from './changes.ts';
import type { Defect } from './defect.ts';

const random = {
  test: 'test/cluster/simulated/plans.test.ts',
  title: 'a run with any of these plans ends with the weights of the undisturbed run',
} as const;

const links = {
  test: 'test/cluster/simulated/links.test.ts',
  title: 'from any faults of links that end, with the same weights',
} as const;

const masters = 'test/cluster/simulated/masters.test.ts';

/**
 * Planted defects that tests with simulated pods must find. Some are in the simulation itself. The
 * others are in code that all kinds of pods share.
 */
export const simulationDefects: readonly Defect[] = [
  {
    name: 'simulation: repeatable',
    guarantee: 'A simulated run depends on its seed only, and its log is the same byte for byte.',
    file: 'cluster/simulated/simulation.ts',
    from: '    const random = mulberry32(seed);',
    to: '    const random = seed < 0 ? mulberry32(seed) : Math.random;',
    test: 'test/cluster/simulated/run.test.ts',
    title: 'has the same events, byte for byte, when it is repeated',
  },
  { name: 'simulation: corrupt frames', ...corruptPayload, ...links },
  { name: 'random plans: agreement', ...commitWithoutAgreement, ...random },
  { name: 'random plans: evaluation', ...oldWeightsInEvaluation, ...random },
  { name: 'random plans: rollback', ...rollbackThatKeepsCount, ...random },
  {
    name: 'masters: commit before told',
    ...toldBeforeCommit,
    test: masters,
    title: 'after a master killed before it writes a commit',
  },
  {
    name: 'masters: commit log synced',
    ...unsyncedLog,
    test: masters,
    title: 'after a torn commit',
  },
  {
    name: 'masters: second master noticed',
    ...secondMasterUnnoticed,
    test: masters,
    title: 'with a second master, to which the workers go over',
  },
  {
    name: 'masters: older checkpoint kept',
    ...olderCheckpointDeleted,
    test: masters,
    title: 'from the older checkpoint, if the newest is damaged and all workers are lost',
  },
  {
    name: 'masters: rename of a checkpoint synced',
    ...unsyncedRename,
    ...{ test: masters, title: 'after any mix of faults' },
  },
  {
    name: 'masters: torn record is no commit',
    ...tornCommit,
    ...{ test: masters, title: 'after any mix of faults' },
  },
  {
    name: 'masters: workers outlive a master',
    guarantee: 'A worker that connects with another master reports the weights that it has.',
    file: 'src/pod/worker.ts',
    from: "    case 'greet':\n      return onStarted(state);",
    to: "    case 'greet':\n      return onStarted({ ...state, steps: null });",
    test: masters,
    title: 'after a master killed before it writes a commit',
  },
];
