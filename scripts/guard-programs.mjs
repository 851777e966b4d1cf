// Runs after the TypeScript compiler. Puts a guard in front of each program of dist/scripts: the
// guard checks the version and features of Node (cluster/host/engine.cts), reports a missing one in
// one line, and loads the program only if all are present. The guard has syntax that old versions
// of Node can read. The program itself moves to `<name>.program.js`. A file that another file of
// the folder imports is not a program and gets no guard.
import { existsSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const folder = fileURLToPath(new URL('../dist/scripts/', import.meta.url));
// The folder is missing in the build of a container image, which leaves out the scripts.
const files = existsSync(folder) ? readdirSync(folder) : [];
const names = files.filter((it) => it.endsWith('.js') && !it.endsWith(ending()));
const texts = new Map(names.map((name) => [name, readFileSync(`${folder}${name}`, 'utf8')]));
const imported = new Set(
  [...texts.values()].flatMap((text) =>
    [...text.matchAll(/from '\.\/([^']+)'/g)].map(([, name]) => name),
  ),
);

for (const [name, text] of texts) {
  if (imported.has(name) || text === beginningOf(name)) continue;
  renameSync(`${folder}${name}`, `${folder}${programOf(name)}`);
  writeFileSync(`${folder}${name}`, beginningOf(name));
}

function beginningOf(name) {
  return [
    '// Written by scripts/guard-programs.mjs.',
    "import { fileURLToPath } from 'node:url';",
    "import { engine } from '../cluster/host/engine.js';",
    '',
    `const program = new URL('./${programOf(name)}', import.meta.url);`,
    '// Some compare their own name with it, to find out whether they were started or imported.',
    'process.argv[1] = fileURLToPath(program);',
    "engine.start({ to: 'people' }, engine.inspect(), () => import(program));",
    '',
  ].join('\n');
}

function programOf(name) {
  return name.replace(/\.js$/, ending());
}

function ending() {
  return '.program.js';
}
