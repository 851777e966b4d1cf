import type { Defect } from './defect.ts';

const checkpoints = 'src/experiment/checkpoint/checkpoints.ts';
const foreign = 'test/experiment/checkpoint/foreign.test.ts';

/**
 * Planted defects that break guarantees about exports of weights, or about the user's own files in
 * or near a checkpoint folder.
 */
export const checkpointFileDefects: readonly Defect[] = [
  {
    name: 'checkpoints: links among them',
    guarantee: 'Clearing up among checkpoints follows no link.',
    file: checkpoints,
    from: "if ((await this.#files.kindOf(path)) !== 'directory') return false;",
    to: "if ((await this.#files.kindOf(path)) === 'file') return false;",
    test: foreign,
    title: 'clearing up follows no link',
  },
  {
    name: 'checkpoints: files of others',
    guarantee: 'Clearing up among checkpoints removes only files that a checkpoint has.',
    file: checkpoints,
    from: '      if (!checkpointFiles.has(file)) return false;\n',
    to: '      if (file === checkpointFiles.toString()) return false;\n',
    test: foreign,
    title: 'clearing up follows no link',
  },
  {
    name: 'checkpoints: names of others',
    guarantee: 'Clearing up among checkpoints removes only what has the name of a checkpoint.',
    file: checkpoints,
    from: '      if (parseName(original) === undefined && name !== probeName) continue;\n',
    to: '',
    test: foreign,
    title: 'clearing up follows no link',
  },
  {
    name: 'export: over a checkpoint',
    guarantee: 'An export never replaces a file of a checkpoint.',
    file: 'src/cli/checkpoint.ts',
    from: 'if (isOfCheckpoints(directory, target.path, target.stats)) {',
    to: "if (output === '' && isOfCheckpoints(directory, target.path, target.stats)) {",
    test: 'test/cli/checkpoint.test.ts',
    title: 'if its output is a file or folder of checkpoints',
  },
  {
    name: 'export: hard link to a checkpoint',
    guarantee: 'An export never replaces a file of a checkpoint, by whatever link it is named.',
    file: 'src/experiment/checkpoint/own-files.ts',
    from: 'return stats !== undefined && filesOf(root)',
    to: 'return stats === null && filesOf(root)',
    test: 'test/cli/checkpoint.test.ts',
    title: 'if its output is a file or folder of checkpoints',
  },
  {
    name: 'export: draft that is left',
    guarantee: 'An export that fails leaves nothing.',
    file: 'src/experiment/checkpoint/export.ts',
    from: '    await removeIfPossible(path, files);\n',
    to: '',
    test: 'test/experiment/checkpoint/export.test.ts',
    title: 'an export that fails at any operation leaves no draft',
  },
  {
    name: 'settings: ~ in a path',
    guarantee: 'A folder called ~ is never made.',
    file: 'src/cli/settings/checks.ts',
    from: "(it) => !it.startsWith('~'),",
    to: "(it) => !it.startsWith('~~'),",
    test: 'test/cli/options.test.ts',
    title: '~ at the beginning of a path is refused',
  },
  {
    name: 'engine: limit on data',
    guarantee: 'Where `ulimit -d` leaves too little, one line says so.',
    file: 'cluster/host/room.ts',
    from: '    lackOfData(runData + threads * threadData, who) ??\n',
    to: '',
    test: 'test/cli/engine.test.ts',
    title: 'too little data',
  },
];
