import { spawnSync } from 'node:child_process';
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  realpathSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { requireCompiled } from '../cluster/compiled.ts';

/**
 * Folder of a user's project. Its `node_modules` has the packed package, and links to the other
 * packages that are installed in this repository.
 */
const project = mkdtempSync(join(realpathSync(tmpdir()), 'package-'));
const modules = join(project, 'node_modules');
afterAll(() => rmSync(project, { recursive: true }));

beforeAll(() => {
  requireCompiled();
  // Without `--ignore-scripts`, npm would run the script `prepare`, which builds the package again.
  run('npm', ['pack', '--ignore-scripts', '--pack-destination', project], '.');
  mkdirSync(join(modules, 'tpu-pod'), { recursive: true });
  const tarball = readdirSync(project).find((name) => name.endsWith('.tgz')) ?? '';
  run('tar', ['-xzf', tarball, '-C', join(modules, 'tpu-pod'), '--strip-components', '1']);
  for (const name of readdirSync('node_modules').filter((it) => !it.startsWith('.'))) {
    symlinkSync(resolve('node_modules', name), join(modules, name));
  }
  write('package.json', { name: 'project', type: 'module', private: true });
  cpSync('test/package/example', project, { recursive: true });
  renameSync(join(project, 'recovery.ts'), join(project, 'recovery.test.ts'));
});

function write(name: string, value: unknown): void {
  writeFileSync(join(project, name), JSON.stringify(value));
}

/**
 * Runs a program in the project and returns its standard output. If its exit code is not 0, fails
 * with its output as the message.
 */
function run(program: string, args: readonly string[], cwd: string = project): string {
  const { status, stdout, stderr, error } = spawnSync(program, args, { cwd, encoding: 'utf8' });
  if (error !== undefined) throw error;
  expect(status, `${program} ${args.join(' ')}:\n${stdout}${stderr}`).toBe(0);
  return stdout;
}

/** Checks the types of the given files of the project with the TypeScript compiler. */
function checkTypes(options: Readonly<Record<string, unknown>>, files: readonly string[]): void {
  const compilerOptions = {
    target: 'es2023',
    lib: ['es2023'],
    strict: true,
    noEmit: true,
    ...options,
  };
  write('tsconfig.json', { compilerOptions, files });
  run(process.execPath, [join(modules, 'typescript', 'bin', 'tsc'), '-p', '.']);
}

describe('the packed package, in an empty folder', () => {
  test('runs the tests that a user writes', () => {
    const vitest = join(modules, 'vitest', 'vitest.mjs');
    const report = run(process.execPath, [vitest, 'run', '--reporter=json']);
    const { numPassedTests, success } = JSON.parse(report.slice(report.indexOf('{')));
    expect({ numPassedTests, success }).toEqual({ numPassedTests: 4, success: true });
  }, 180_000);

  test.each(['nodenext', 'bundler'])(
    'has types for moduleResolution %s',
    (moduleResolution) => {
      const module = moduleResolution === 'nodenext' ? 'nodenext' : 'esnext';
      const options = { module, moduleResolution, types: ['node'], skipLibCheck: true };
      checkTypes(options, ['recovery.test.ts', 'types.ts', 'record.ts']);
    },
    60_000,
  );

  test('has declarations without mistakes, which need no types of Node or Vitest', () => {
    const strictest = { exactOptionalPropertyTypes: true, noUncheckedIndexedAccess: true };
    checkTypes({ module: 'nodenext', types: [], lib: ['es2023', 'dom'], ...strictest }, [
      'types.ts',
    ]);
  }, 60_000);

  test('has the library without Vitest, the command, and the reader of a recorded run', () => {
    const keys = "import('tpu-pod/testing').then((it) => console.log(Object.keys(it).join()))";
    expect(run(process.execPath, ['-e', keys]).split(',')).toEqual(
      expect.arrayContaining(['kill', 'matchers', 'pod', 'PodError']),
    );
    const command = join(modules, 'tpu-pod', 'dist', 'src', 'cli', 'main.cjs');
    const words = 'train --tpus 1 --model mlp --steps 2 --global-batch 8 --evaluate 8 --run record';
    run(process.execPath, [command, ...words.split(' ')]);
    const steps = "({ events }) => events.filter(({ kind }) => kind === 'step').length";
    const code = `import('tpu-pod').then((it) => console.log((${steps})(it.readRun('record'))))`;
    expect(run(process.execPath, ['-e', code])).toBe('2\n');
  }, 60_000);
});
