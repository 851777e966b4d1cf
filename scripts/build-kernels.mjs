// Compiles src/<folder>/kernels/assembly/*.ts to WebAssembly. Each kernel is written as base64 to a
// module `src/<folder>/kernels/<name>.wasm.ts`, so that a plain import finds it in src, in dist and
// in a container image. A module that is newer than every source is left as it is. This script is
// plain JavaScript because it runs before anything is compiled.
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

// This script is the first of the project that `npm ci` runs, so it reports a Node that is too old.
const [major, minor] = process.versions.node.split('.').map(Number);
if (major < 20 || (major === 20 && minor < 19)) {
  const found = process.versions.node;
  process.stderr.write(`pod: unsupported-engine: expected Node 20.19 or newer, found ${found}\n`);
  process.exit(2);
}
const { default: asc } = await import('assemblyscript/asc');

const gemmParts = ['gemm-sparse.ts', 'gemm-workspace.ts'];

// `parts` are the files that `source` imports. `config` has the constants of the module './config',
// which this script generates and `source` imports too.
const builds = [
  {
    folder: 'chip',
    name: 'gemm-fma',
    source: 'gemm.ts',
    parts: gemmParts,
    config: { FUSED: 'bool = true', ROWS: 'i32 = 6' },
  },
  {
    folder: 'chip',
    name: 'gemm-muladd',
    source: 'gemm.ts',
    parts: gemmParts,
    config: { FUSED: 'bool = false', ROWS: 'i32 = 5' },
  },
  { folder: 'chip', name: 'vector', source: 'vector.ts', config: {} },
  { folder: 'chip', name: 'peak', source: 'peak.ts', config: {} },
  { folder: 'fabric', name: 'sum', source: 'sum.ts', config: {} },
  { folder: 'fabric', name: 'crc', source: 'crc.ts', config: {} },
];

const options = [
  ...['--optimizeLevel', '3', '--shrinkLevel', '0', '--noAssert', '--runtime', 'stub'],
  ...['--importMemory', '--sharedMemory', '--initialMemory', '1', '--maximumMemory', '65536'],
  ...['--enable', 'simd,relaxed-simd,threads'],
];

for (const build of builds) {
  const output = fileURLToPath(new URL(`${build.name}.wasm.ts`, kernels(build.folder)));
  if (modified(output) > newestInput(build.folder)) continue;
  const wasm = await compile(build);
  writeFileSync(output, moduleText(build, wasm));
  console.log(`${build.name}: ${wasm.length} bytes`);
}

function kernels(folder) {
  return new URL(`../src/${folder}/kernels/`, import.meta.url);
}

function newestInput(folder) {
  const assembly = new URL('assembly/', kernels(folder));
  const sources = readdirSync(assembly).map((file) => fileURLToPath(new URL(file, assembly)));
  return Math.max(...[fileURLToPath(import.meta.url), ...sources].map(modified));
}

function modified(path) {
  return statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;
}

async function compile({ folder, name, source, parts = [], config }) {
  const assembly = new URL('assembly/', kernels(folder));
  const texts = {};
  for (const file of [source, ...parts])
    texts[file] = readFileSync(new URL(file, assembly), 'utf8');
  texts['config.ts'] = Object.entries(config)
    .map(([constant, value]) => `export const ${constant}: ${value};`)
    .join('\n');
  let wasm;
  const { error, stderr } = await asc.main([source, '--outFile', `${name}.wasm`, ...options], {
    readFile: (path) => texts[path] ?? null,
    writeFile: (path, contents) => {
      if (path === `${name}.wasm`) wasm = contents;
    },
    listFiles: () => [],
  });
  if (error || !wasm) throw new Error(`${name}: ${error?.message}\n${stderr.toString()}`);
  return wasm;
}

function moduleText({ name, source }, wasm) {
  const base64 = Buffer.from(wasm).toString('base64');
  return [
    `// Made by scripts/build-kernels.mjs from assembly/${source}; not kept in git.`,
    `/** The WebAssembly module ${name}, in base64. */`,
    `export const wasm: string =`,
    `  '${base64}';`,
    '',
  ].join('\n');
}
