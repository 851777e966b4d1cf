// Runs after the TypeScript compiler, which writes a declaration file for each module to dist/types.
// Keeps only the declarations that a user of the package can reach from the `types` of package.json,
// and lets them import `.js` instead of `.ts`, as the modules of the package do.
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const { exports } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
const types = join(root, 'dist', 'types');
const kept = new Set();
// The folder of the tests is missing in the build of a container image, which needs no types.
for (const { types: entry } of Object.values(exports)) if (entry) keep(join(root, entry));
for (const name of readdirSync(types, { recursive: true, encoding: 'utf8' })) {
  if (/\.d\.c?ts$/.test(name) && !kept.has(join(types, name))) rmSync(join(types, name));
}
removeEmpty(types);

/** Keeps a declaration file and all that it imports. */
function keep(file) {
  if (kept.has(file)) return;
  kept.add(file);
  const text = readFileSync(file, 'utf8');
  const rewritten = text.replaceAll(
    /((?:from|import)\s*\(?\s*['"]\.[^'"]*)\.(?:ts|js)(['"])/g,
    '$1.js$2',
  );
  if (rewritten !== text) writeFileSync(file, rewritten);
  for (const [, path] of rewritten.matchAll(/(?:from|import)\s*\(?\s*['"](\.[^'"]*)\.js['"]/g)) {
    keep(join(dirname(file), `${path}.d.ts`));
  }
}

function removeEmpty(folder) {
  if (!existsSync(folder)) return;
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    if (entry.isDirectory()) removeEmpty(join(folder, entry.name));
  }
  if (readdirSync(folder).length === 0) rmSync(folder, { recursive: true });
}
