// Runs after the compiler: gives each program of dist/scripts a beginning that engines of any age read
// (cluster/host/engine.cts), so that one that is too old, or lacks a feature, is named in a line. The
// program itself moves beside it. A file that another one of the folder imports is no program.
import { existsSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const folder = fileURLToPath(new URL('../dist/scripts/', import.meta.url));
// An image of containers is built without the scripts.
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
