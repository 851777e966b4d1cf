import type { Defect } from './defect.ts';

/**
 * Planted defects that break guarantees about the commands that show the state of a pod, follow its
 * logs or end it.
 */
export const readerDefects: readonly Defect[] = [
  {
    name: 'down: a damaged list',
    guarantee: 'A pod whose list of processes is damaged is not said to have ended.',
    file: 'cluster/process/spawn.ts',
    from: '  if (found.supervisor !== undefined || found.all.length > 0) return found;\n',
    to: '  if (file.bytes.length >= 0) return found;\n',
    test: 'test/cli/readers.test.ts',
    title: 'an empty file is not taken for a pod that has ended',
  },
  {
    name: 'follow: no reader',
    guarantee: 'A command that follows a log ends with its reader.',
    file: 'cluster/host/has-reader.ts',
    from: 'const readerGone = 0x08 | 0x10;',
    to: 'const readerGone = 0;',
    test: 'test/cli/readers.test.ts',
    title: 'pod logs --follow ends with its reader',
  },
  {
    name: 'logs: a pipe',
    guarantee: 'A log that is no regular file is refused, and never waited for.',
    file: 'src/files/read.ts',
    from: "if (stats.isFile()) return { kind: 'opened', file, stats };",
    to: "if (stats.size >= 0) return { kind: 'opened', file, stats };",
    test: 'test/cli/readers.test.ts',
    title: 'a pipe is refused and named',
  },
  {
    name: 'status: words of others',
    guarantee: 'What another server answers has nothing that a terminal obeys.',
    file: 'src/cli/status.ts',
    from: 'return lines.map((line) => oneLine(line));',
    to: "return lines.filter((line) => oneLine(line) !== '');",
    test: 'test/cli/readers.test.ts',
    title: 'control characters of another server never reach the terminal: pod status',
  },
];
