import { readdirSync, readFileSync } from 'node:fs';
import { join, relative, resolve } from 'node:path';
import { expect, test } from 'vitest';

/**
 * The layers of `src`, lowest first. For each folder: the other folders from which it may import.
 */
const mayImport: Readonly<Record<string, readonly string[]>> = {
  spec: [],
  numerics: [],
  files: [],
  picture: ['numerics'],
  hlo: ['spec', 'numerics'],
  isa: ['numerics'],
  compiler: ['spec', 'numerics', 'hlo', 'isa'],
  chip: ['spec', 'numerics', 'isa'],
  fabric: ['spec', 'numerics', 'isa'],
  pod: ['spec', 'numerics', 'isa', 'chip', 'fabric'],
  fault: ['numerics', 'files', 'fabric', 'pod'],
  autodiff: ['numerics', 'hlo'],
  optimizer: ['numerics', 'hlo', 'autodiff'],
  model: ['numerics', 'hlo', 'autodiff', 'optimizer'],
  data: ['numerics', 'files'],
  experiment: [
    'spec',
    'numerics',
    'files',
    'hlo',
    'isa',
    'compiler',
    'chip',
    'fabric',
    'pod',
    'autodiff',
    'optimizer',
    'model',
    'data',
  ],
  run: ['numerics', 'files', 'isa', 'pod', 'fault', 'model', 'experiment'],
  observe: ['numerics', 'picture', 'isa', 'pod', 'fault', 'experiment', 'run'],
  cli: [
    'spec',
    'numerics',
    'files',
    'picture',
    'hlo',
    'isa',
    'compiler',
    'chip',
    'fabric',
    'pod',
    'autodiff',
    'optimizer',
    'model',
    'data',
    'experiment',
    'run',
    'observe',
    'fault',
  ],
  testing: ['numerics', 'fabric', 'experiment', 'fault', 'cli'],
};

/** Folders of `src` that may use clocks, timers, the environment and random numbers. */
const mayTouchTheWorld = ['cli'];

interface Import {
  readonly file: string;
  readonly target: string;
  /** True for `import type`. */
  readonly isOfTypes: boolean;
}

test('every import between folders of src points down the layers', () => {
  const strays = imports('src')
    .filter(({ target }) => target.startsWith('src/'))
    .filter(({ file, target }) => {
      const [from, to] = [folderOf(file), folderOf(target)];
      return from !== to && !mayImport[from]?.includes(to);
    })
    .map(({ file, target }) => `${file} imports ${target}`);
  expect(strays).toEqual([]);
});

test('only cli imports from cluster, and nothing in src imports from test or scripts', () => {
  const strays = imports('src')
    .filter(({ target }) => !target.startsWith('src/'))
    .filter(({ file, target }) => !(folderOf(file) === 'cli' && target.startsWith('cluster/')))
    .map(({ file, target }) => `${file} imports ${target}`);
  expect(strays).toEqual([]);
});

test('the table has every folder of src, and a folder may import only from lower layers', () => {
  const folders = Object.keys(mayImport);
  expect([...new Set(sourceFiles('src').map(folderOf))].sort()).toEqual([...folders].sort());
  for (const [index, folder] of folders.entries()) {
    const lower = folders.slice(0, index);
    expect(lower).toEqual(expect.arrayContaining([...(mayImport[folder] ?? [])]));
  }
});

/**
 * An instruction's operands are instructions. So the union of all instructions and the files that
 * define their types name each other. They do so as types only, which no program loads.
 */
const recursiveTypes = 'src/hlo/instruction.ts';

test('there are no cycles of imports', () => {
  const all = [...imports('src'), ...imports('cluster')].filter(
    ({ target, isOfTypes }) => !(isOfTypes && target === recursiveTypes),
  );
  const next = new Map<string, string[]>();
  for (const { file, target } of all) next.set(file, [...(next.get(file) ?? []), target]);
  expect(findCycle(next)).toEqual([]);
});

test('threads and processes share the runtime of a worker, and neither owns it', () => {
  const folders = ['runtime', 'threads', 'process'];
  const found = imports('cluster')
    .map(({ file, target }) => `${folderOf(file)} imports ${folderOf(target)}`)
    .filter((text) =>
      folders.some((from) => folders.some((to) => text === `${from} imports ${to}`)),
    )
    .filter((text) => !folders.some((folder) => text === `${folder} imports ${folder}`));
  expect([...new Set(found)].sort()).toEqual([
    'process imports runtime',
    'threads imports runtime',
  ]);
});

test('below cli and cluster no file uses clocks, timers, the environment or random numbers', () => {
  const world = /\bDate\b|performance\.|Math\.random|setTimeout|setInterval|process\.env/;
  const strays = sourceFiles('src')
    .filter((file) => !mayTouchTheWorld.includes(folderOf(file)))
    .filter((file) => world.test(withoutComments(readFileSync(file, 'utf8'))));
  expect(strays).toEqual([]);
});

/**
 * Files that may read wall time, because they print the time or put it into a signature. Deadlines
 * must not use wall time, because the administrator can change the clock at any moment.
 */
const mayUseWallTime = [
  'cluster/host/engine.cts',
  'cluster/host/lock.ts',
  'cluster/master/master.ts',
  'cluster/supervisor/pod-end.ts',
  'cluster/worker/log-output.ts',
  'scripts/cluster-faults.ts',
  'scripts/cluster-memory.ts',
  'scripts/faults/inject.ts',
  'scripts/faults/process-rig.ts',
  'scripts/fuzz-assaults.ts',
  'scripts/swarm-nodes.ts',
  'src/cli/job-client.ts',
  'src/cli/jobs.ts',
  'src/cli/run-folder.ts',
];

test('only files that print or sign wall time read it', () => {
  const found = ['src', 'cluster', 'scripts']
    .flatMap(allSourceFiles)
    .filter((file) => /\bDate\b/.test(withoutComments(readFileSync(file, 'utf8'))));
  expect(found.sort()).toEqual(mayUseWallTime);
});

test('no deadline is computed from wall time', () => {
  const sums = /\bDate\.now\(\)\s*[+<>]|[+<>]=?\s*Date\.now\(\)/;
  const found = ['src', 'cluster', 'scripts']
    .flatMap(allSourceFiles)
    .filter((file) => sums.test(withoutComments(readFileSync(file, 'utf8'))));
  expect(found).toEqual([]);
});

function findCycle(next: ReadonlyMap<string, readonly string[]>): string[] {
  const done = new Set<string>();
  const path: string[] = [];
  const visit = (file: string): string[] => {
    if (path.includes(file)) return [...path.slice(path.indexOf(file)), file];
    if (done.has(file)) return [];
    path.push(file);
    for (const target of next.get(file) ?? []) {
      const cycle = visit(target);
      if (cycle.length > 0) return cycle;
    }
    path.pop();
    done.add(file);
    return [];
  };
  for (const file of next.keys()) {
    const cycle = visit(file);
    if (cycle.length > 0) return cycle;
  }
  return [];
}

/** Matches an import or a re-export from another file of this project. */
const importPattern = /(import type [^;]*?)?(?:from|import\()\s*'(\.[^']+)'/g;

function imports(root: string): Import[] {
  return sourceFiles(root).flatMap((file) => {
    const source = readFileSync(file, 'utf8');
    return [...source.matchAll(importPattern)].map((match) => ({
      file,
      target: relative('.', resolve(file, '..', match[2] ?? '')),
      isOfTypes: match[1] !== undefined,
    }));
  });
}

function sourceFiles(root: string): string[] {
  return readdirSync(root, { recursive: true, encoding: 'utf8' })
    .filter((it) => it.endsWith('.ts') && !it.includes('assembly'))
    .map((it) => join(root, it));
}

function allSourceFiles(root: string): string[] {
  return readdirSync(root, { recursive: true, encoding: 'utf8' })
    .filter((it) => /\.(ts|cts|mjs)$/.test(it) && !it.includes('assembly'))
    .map((it) => join(root, it));
}

function folderOf(file: string): string {
  return file.split('/')[1] ?? '';
}

function withoutComments(source: string): string {
  return source.replace(/\/\*[\s\S]*?\*\/|\/\/.*$/gm, '');
}
