import type { Defect } from './defect.ts';

/**
 * Planted defects that break guarantees of docs/OPERATING.md about files that a run reads and
 * writes.
 */
export const streamDefects: readonly Defect[] = [
  {
    name: 'data: gzip by its header',
    guarantee: 'No more of a packed file is unpacked than its header demands.',
    file: 'src/data/idx.ts',
    from: "unzip(path, packed, 'whole', header.fileBytes)",
    to: "unzip(path, packed, 'whole', bytesMax)",
    test: 'test/data/idx.test.ts',
    title: 'a gzip file with more bytes than its header demands',
  },
  {
    name: 'output: one file twice',
    guarantee: 'No two outputs of a run are one file.',
    file: 'src/files/target.ts',
    from: 'return a.isFile() && a.dev === b.dev && a.ino === b.ino;',
    to: 'return a === b;',
    test: 'test/cli/outputs.test.ts',
    title: 'one file by a hard link',
  },
  {
    name: 'log: lost without a word',
    guarantee: 'The exit code says that lines of the log were lost.',
    file: 'src/cli/train-outputs.ts',
    from: '[this.#log?.lost, this.#report?.lost, this.#folder?.lost]',
    to: '[this.#report?.lost, this.#folder?.lost]',
    test: 'test/cli/outputs.test.ts',
    title: 'a log on a full disk',
  },
  {
    name: 'log: a resumed run',
    guarantee: 'A resumed run adds to its log.',
    file: 'src/cli/train-outputs.ts',
    from: 'isAppended: checkpoint?.resume === true,',
    to: 'isAppended: checkpoint === undefined,',
    test: 'test/cli/outputs.test.ts',
    title: 'a resumed run adds to its log',
  },
  {
    name: 'report: whole or not at all',
    guarantee: 'A report that cannot be written leaves the one before it.',
    file: 'src/files/write.ts',
    from: "openSync(draft, 'w', 0o666)",
    to: "openSync(path, 'w', 0o666)",
    test: 'test/cli/outputs.test.ts',
    title: 'a report that fails leaves the one before it',
  },
];
