import type { Defect } from './defect.ts';

/** Losses of what people are shown. */
export const peopleDefects: readonly Defect[] = [
  {
    name: 'people: control characters of a log',
    guarantee: 'Text that is made of a log has nothing that a terminal obeys.',
    file: 'src/observe/log-text.ts',
    from: "typeof it === 'string' ? oneLine(it) : it",
    to: 'it',
    test: 'test/observe/log-text.test.ts',
    title: 'has nothing that a terminal obeys, and no null',
  },
  {
    name: 'people: JSON for programs',
    guarantee: 'In a pipe pod up --wait prints the summary as one line of JSON.',
    file: 'src/cli/screen.ts',
    from: 'return stream.isTTY === true;',
    to: 'return stream !== undefined;',
    test: 'test/cli/terminal.test.ts',
    title: 'in a pipe prints the summary',
  },
  {
    name: 'people: logs of pod up are JSON',
    guarantee: 'The logs of pod up are JSON, whatever POD_LOG_FORMAT says.',
    file: 'cluster/process/spawn.ts',
    from: 'const ours = { POD_LOG_FORMAT: ',
    to: 'const ours = { POD_OTHER_FORMAT: ',
    test: 'test/cli/terminal.test.ts',
    title: 'in a pipe prints the summary',
  },
  {
    name: 'people: status of a dead pod',
    guarantee: 'pod status of a pod that has ended has exit code 3.',
    file: 'src/cli/status.ts',
    from: "process.exitCode = errorCodes['worker-exited'];",
    to: 'process.exitCode = 0;',
    test: 'test/cli/status.test.ts',
    title: 'for programs as well',
  },
  {
    name: 'people: readiness of a serving master',
    guarantee: 'A serving master is ready while it has no job.',
    file: 'cluster/master/run-state.ts',
    from: 'return this.#canStep || (this.#isServing && !this.isStopping);',
    to: 'return this.#canStep;',
    test: 'test/cluster/master/run-state.test.ts',
    title: 'a master that takes jobs is ready',
  },
];
