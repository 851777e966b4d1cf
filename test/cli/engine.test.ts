import { execFileSync, spawn } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { transformWithOxc } from 'vite';
import { expect, test } from 'vitest';
import { engine } from '../../cluster/host/engine.ts';
import { anotherUser, canBeAnother } from '../another-user.ts';
import { compiled } from '../cluster/compiled.ts';
import { engineWith, otherEngines, thisEngine } from '../engines.ts';
import { type Ended, endOf } from './run-pod.ts';

const pod = 'src/cli/main.cjs';
const commands = ['train', 'compile', 'up', 'doctor', 'devices', 'status', 'jobs', '--help'];
const daemons = ['master', 'worker', 'supervisor'].map((it) => `cluster/${it}/main.cjs`);

/**
 * Files that even old versions of Node must be able to load, because they check the version of
 * Node: the first file of each program, and the files that this check needs.
 */
const beginnings = [
  ...[pod, 'src/cli/main.js', 'cluster/host/engine.cjs', 'cluster/host/engine.js'],
  ...daemons.flatMap((it) => [it, it.replace('.cjs', '.js')]),
  ...['cluster/worker/ready.js', 'cluster/image/set-token.js'],
  ...readdirSync(compiled('scripts'))
    .filter((it) => it.endsWith('.program.js'))
    .map((it) => `scripts/${it.replace('.program', '')}`),
];

test.each(beginnings)('%s has no syntax that is newer than 2019', async (path) => {
  const text = readFileSync(compiled(path), 'utf8');
  const asItIs = await transformWithOxc(text, path.replace('.cjs', '.js'), { target: 'esnext' });
  const lowered = await transformWithOxc(text, path.replace('.cjs', '.js'), { target: 'es2019' });
  expect(lowered.code).toBe(asItIs.code);
  const loaded = [...text.matchAll(/(?:^import [^;]*?from |^import |require\()'(\.[^']+)'/gm)];
  const names = loaded.map(([, name = '']) => name.replace(/^.*\//, ''));
  expect(names.filter((it) => !/^(engine|main)\.c?js$/.test(it))).toEqual([]);
});

const old = otherEngines.filter(({ major }) => major < 20);
const oldLine = /^pod: unsupported-engine: expected Node 20\.19 or newer, found [\d.]+; install it/;

test.skipIf(old.length === 0)('POD_TEST_ENGINES: every program refuses an old Node', async () => {
  for (const { path, version } of old) {
    for (const words of [[], ...commands.filter((it) => it !== 'doctor').map((it) => [it])]) {
      const ended = await run({ node: path, words });
      expect([version, words, ended.code, ended.stdout]).toEqual([version, words, 2, '']);
      expect(ended.stderr).toMatch(oldLine);
      expect(ended.stderr.match(/\n/g)?.length).toBe(1);
    }
    for (const program of beginnings.filter((it) => !/engine\.c?js$/.test(it))) {
      const { code, stdout, stderr } = await run({ node: path, program });
      expect([program, code]).toEqual([program, 2]);
      expect(`${stdout}${stderr}`).toMatch(/^\S.*unsupported-engine.*\n$/);
    }
    const doctor = await run({ node: path, words: ['doctor'] });
    expect(doctor).toMatchObject({ code: 2, stderr: '' });
    expect(doctor.stdout).toMatch(/^no {2}Node .*expected Node 20\.19 or newer, found/);
    const json = await run({ node: path, words: ['doctor', '--json'] });
    expect(JSON.parse(json.stdout)[0]).toMatchObject({ name: 'Node', ok: false, found: version });
  }
});

test('versions are compared as numbers, not as text', async () => {
  const refused = ['18.20.8', '20.18.3', '20.9.0', '9.11.2', '0.12.18'];
  const all = [...refused, '20.19.0', '20.20.2', '22.0.0', '100.1.0'];
  const ended = await Promise.all(
    all.map((version) => {
      const as = `Object.defineProperty(process.versions, 'node', { value: '${version}' })`;
      return run({ flags: ['--import', `data:text/javascript,${as}`], words: ['devices'] });
    }),
  );
  expect(all.filter((_, i) => ended[i]?.code === 2)).toEqual(refused);
  for (const [i] of refused.entries()) expect(ended[i]?.stderr).toMatch(oldLine);
  expect(all.filter((_, i) => ended[i]?.code === 0)).toEqual(all.slice(refused.length));
});

/** For each flag of Node that switches off a feature: the message that `pod` must print. */
const lacking: Readonly<Record<string, RegExp>> = {
  '--jitless': /^pod: unsupported-engine: expected WebAssembly, found none; .*--jitless/m,
  '--no-expose-wasm': /^pod: unsupported-engine: expected WebAssembly, found none/m,
  '--no-harmony-sharedarraybuffer':
    /^pod: unsupported-engine: expected SharedArrayBuffer, .*found/m,
  '--no-harmony-atomics': /^pod: unsupported-engine: expected SharedArrayBuffer, Atomics/m,
  '--stack-size=60': /^pod: unsupported-engine: expected a stack of at least 800 calls, found/m,
  ...(process.arch === 'x64' && {
    '--no-enable-ssse3': /^pod: unsupported-engine: expected SIMD of WebAssembly, found none/m,
    '--no-enable-sse4-1': /^pod: unsupported-engine: expected SIMD of WebAssembly, found none/m,
  }),
};

const current = [thisEngine, ...otherEngines.filter(({ major }) => major >= 20)];

for (const { path, version } of current) {
  test.each(Object.entries(lacking).filter(([flag]) => isKnown(path, flag)))(
    `Node ${version} %s: every program names the missing feature and ends with exit code 2`,
    async (flag, line) => {
      // Only the flag --jitless is tried with all commands and programs. Every other flag is tried
      // with one command and one program.
      const some = flag === '--jitless' ? commands.filter((it) => it !== 'doctor') : ['train'];
      const programs = flag === '--jitless' ? daemons : daemons.slice(1, 2);
      const all = await Promise.all([
        ...some.map((it) => run({ node: path, flags: [flag], words: [it] })),
        ...programs.map((program) => run({ node: path, flags: [flag], program })),
        run({ node: path, flags: [flag], words: ['doctor'] }),
      ]);
      expect(all.map(({ code }) => code)).toEqual(all.map(() => 2));
      const doctor = all.pop();
      expect(doctor?.stdout.match(/^no .*$/gm)?.[0]).toMatch(/expected .*, found/);
      for (const { stderr } of all.slice(0, some.length)) {
        expect(stderr).toMatch(line);
        expect(stderr.split('\n').filter((it) => it.startsWith('pod:')).length).toBe(1);
      }
      for (const { stdout } of all.slice(some.length)) {
        expect(JSON.parse(stdout)).toMatchObject({ level: 50, code: 'unsupported-engine' });
      }
    },
  );
}

test('a feature that NODE_OPTIONS takes away is named as missing', async () => {
  const { code, stderr } = await run({ words: ['up'], env: { NODE_OPTIONS: '--jitless' } });
  expect(code).toBe(2);
  expect(stderr).toMatch(lacking['--jitless'] ?? /x/);
});

const permission = engineWith(({ major }) => major >= 20);

test('Node without the permission to start threads is refused', async () => {
  const flag =
    permission !== undefined && permission.major >= 24
      ? '--permission'
      : '--experimental-permission';
  const ended = await run({ flags: [flag, '--allow-fs-read=*'], words: ['train'] });
  expect(ended.code).toBe(2);
  expect(ended.stderr).toMatch(
    /^pod: unsupported-engine: expected threads, found none: .*--allow-worker/m,
  );
});

/** Returns flags of Node that make an import of `commander` load the module `module` instead. */
function insteadOfCommander(module: string): string[] {
  const hook = `export const resolve = (name, context, next) =>
    next(name === 'commander' ? ${JSON.stringify(module)} : name, context)`;
  const program = `import { register } from 'node:module';
    register('data:text/javascript,' + encodeURIComponent(${JSON.stringify(hook)}));`;
  return ['--import', `data:text/javascript,${encodeURIComponent(program)}`];
}

test('a program without its packages says how to install them', async () => {
  const flags = insteadOfCommander('commander-is-missing');
  const { code, stderr } = await run({ flags, words: ['devices'] });
  expect(code).toBe(5);
  expect(stderr).toMatch(
    /^pod: io: the program could not be loaded: .*commander.*; run npm ci, which installs/,
  );
});

test('a program that cannot be loaded for another reason names the flags of node', async () => {
  const flags = insteadOfCommander('data:text/javascript,export default 1');
  const { code, stderr } = await run({ flags, words: ['devices'] });
  expect(code).toBe(2);
  expect(stderr).toMatch(
    /^pod: unsupported-engine: the program could not be loaded: .*commander.*; start node without .*--import/,
  );
});

test('this machine has all features that the engine check requires', async () => {
  expect(engine.inspect().filter((it) => !it.ok)).toEqual([]);
  const { code, stdout } = await run({ words: ['doctor', '--json'] });
  expect(code).toBe(0);
  const names = JSON.parse(stdout).map(({ name }: { name: string }) => name);
  for (const { name } of engine.inspect()) expect(names).toContain(name);
});

// ------------------------------------------------------------------------ limits of the system

const small = ['--model', 'mlp', '--steps', '3', '--evaluate', '64', '--global-batch', '64'];
const isLinux = process.platform === 'linux';

test.runIf(isLinux)(
  'too little address space: one line and exit code 4, before V8 crashes',
  async () => {
    for (const kiB of [1_400_000, 2_000_000, 8_000_000]) {
      const all = await Promise.all(
        [
          ['train', '--tpus', '1', ...small],
          ['up', '--dir', `${tmpdir()}/pod-none`],
        ].map((words) => limited(`ulimit -v ${kiB}`, words)),
      );
      for (const { code, stderr } of all) {
        expect(stderr).toMatch(
          /^pod: out-of-memory: .*expected .* of free address space.*\(ulimit -v \d+\)/,
        );
        expect([kiB, code]).toEqual([kiB, 4]);
      }
      const doctor = await limited(`ulimit -v ${kiB}`, ['doctor']);
      expect([kiB, doctor.code]).toEqual([kiB, 2]);
      expect(doctor.stdout).toMatch(/^no .*address space/m);
    }
  },
);

test.runIf(isLinux)(
  'too little data (ulimit -d): one line and exit code 4, before V8 crashes',
  async () => {
    for (const kiB of [60_000, 100_000, 200_000, 300_000]) {
      const [train, up, doctor] = await Promise.all(
        [
          ['train', '--tpus', '8', ...small],
          ['up', '--dir', `${tmpdir()}/pod-none`],
          ['doctor'],
        ].map((words) => limited(`ulimit -d ${kiB}`, words)),
      );
      for (const ended of [train, up]) {
        expect(ended?.stderr).toMatch(
          /^pod: out-of-memory: .*expected .* of free memory for data.*\(ulimit -d \d+\); .*ulimit -d unlimited.*\n$/,
        );
        expect([kiB, ended?.code]).toEqual([kiB, 4]);
      }
      expect([kiB, doctor?.code]).toEqual([kiB, 2]);
      expect(doctor?.stdout).toMatch(/^no .*data/m);
    }
  },
);

test.runIf(isLinux)(
  'a removed working directory or too few open files: one line and exit code 5',
  async () => {
    const gone = 'cd "$(mktemp -d)" && rmdir "$PWD"';
    for (const [limit, message] of [
      [
        gone,
        /^pod: io: expected a current folder that exists, found a folder that was removed; change to another/,
      ],
      [
        'ulimit -n 100',
        /^pod: io: expected room for 192 open files, found room for 100 \(ulimit -n 100\)/,
      ],
    ] as const) {
      for (const words of [['train', ...small], ['up'], ['compile']]) {
        const { code, stderr } = await limited(limit, words);
        expect([limit, code, stderr]).toEqual([limit, 5, expect.stringMatching(message)]);
      }
      const doctor = await limited(limit, ['doctor']);
      expect([limit, doctor.code]).toEqual([limit, 2]);
      expect(doctor.stdout).toMatch(/^no {2}(open files|current folder) /m);
    }
  },
);

test.runIf(isLinux)(
  'pod compile needs no more than 2.5 GB of address space (ulimit -v)',
  async () => {
    const { code, stderr } = await limited('ulimit -v 2500000', ['compile', '--model', 'mlp']);
    expect([code, stderr]).toEqual([0, '']);
  },
);

test.skipIf(!canBeAnother)(
  '(as root) too few threads allowed: one line and exit code 4, and no hang',
  async () => {
    for (const tasks of [6, 8, 10, 12, 16, 20]) {
      const [train, up, doctor] = await Promise.all([
        limited(`ulimit -u ${tasks}`, ['train', '--tpus', '8', ...small], anotherUser(1)),
        limited(`ulimit -u ${tasks}`, ['up', '--dir', `${tmpdir()}/pod-none`], anotherUser(2)),
        limited(`ulimit -u ${tasks}`, ['doctor'], anotherUser(3)),
      ]);
      for (const { code, stderr } of [train, up]) {
        expect([tasks, code, stderr]).toEqual([tasks, 4, expect.stringMatching(outOfThreads)]);
      }
      if (tasks >= 12)
        expect(train?.stderr).toMatch(/one process: expected room for 10 more threads/);
      expect([tasks, doctor?.code]).toEqual([tasks, 2]);
      expect(doctor?.stdout).toMatch(/^no .*threads.*\(ulimit -u \d+\)/m);
    }
    const enough = await limited(
      'ulimit -u 40',
      ['train', '--tpus', '8', ...small],
      anotherUser(0),
    );
    expect(enough).toMatchObject({ code: 0, stderr: '' });
  },
  120_000,
);

const outOfThreads =
  /^(?:node\S* pthread_create: .*\n)?pod: out-of-threads: .*expected room for \d+ more threads?.*, found room for \d+ \(ulimit -u \d+\); raise the limit.*\n$/;

interface Run {
  readonly node?: string;
  readonly flags?: readonly string[];
  readonly program?: string;
  readonly words?: readonly string[];
  readonly env?: NodeJS.ProcessEnv;
}

function run({
  node = process.execPath,
  flags = [],
  program = pod,
  words = [],
  env,
}: Run): Promise<Ended> {
  return endOf(
    spawn(node, [...flags, compiled(program), ...words], {
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    }),
  );
}

/**
 * Runs `pod` in a shell after the command `limit`, such as `ulimit -v 2000000`. After 60 s `pod` is
 * killed and has no exit code.
 */
function limited(
  limit: string,
  words: readonly string[],
  as: readonly string[] = [],
): Promise<Ended> {
  const line = `${limit}; exec "$@"`;
  const shell = ['-c', line, 'bash', process.execPath, compiled(pod), ...words];
  const args = ['--signal', 'KILL', '60', ...as, 'bash', ...shell];
  return endOf(spawn('timeout', args, { cwd: tmpdir(), stdio: ['ignore', 'pipe', 'pipe'] }));
}

function works(line: string): boolean {
  try {
    execFileSync('sh', ['-c', line], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

function isKnown(node: string, flag: string): boolean {
  return works(`${node} ${flag} --eval 0`);
}
