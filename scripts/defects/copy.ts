import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Change } from './defect.ts';

const root = fileURLToPath(new URL('../../..', import.meta.url));

/**
 * Copies the tracked files, the generated kernels and `dist` to a new temporary folder, and returns
 * its path. `node_modules` of the copy is a link to that of this checkout.
 */
export function makeCopy(): string {
  const copy = mkdtempSync(join(tmpdir(), 'pod-defects-'));
  const { stdout } = spawnSync('git', ['ls-files', '-z'], { cwd: root, encoding: 'utf8' });
  for (const file of stdout.split('\0').filter(Boolean)) {
    cpSync(join(root, file), join(copy, file), { recursive: true });
  }
  for (const kernels of ['src/chip/kernels', 'src/fabric/kernels']) {
    cpSync(join(root, kernels), join(copy, kernels), { recursive: true });
  }
  cpSync(join(root, 'dist'), join(copy, 'dist'), { recursive: true });
  symlinkSync(join(root, 'node_modules'), join(copy, 'node_modules'));
  return copy;
}

/** Compiles a copy. Returns false if it does not compile. */
export function compiles(copy: string): boolean {
  return (
    spawnSync(process.execPath, [tool('typescript', 'tsc'), '-p', 'tsconfig.build.json'], {
      cwd: copy,
    }).status === 0
  );
}

/** True if the text that a change replaces stands exactly once in the file of the copy. */
export function fits(copy: string, { file, from }: Edit): boolean {
  return readFileSync(join(copy, file), 'utf8').split(from).length === 2;
}

/** Reason why a change cannot be made in a copy. */
export type Unfit = 'does not fit' | 'does not compile';

/**
 * Makes a change in a copy, compiles the copy, calls `work` and returns its result. Afterwards
 * restores the source file, but does not compile the copy again. If the change does not fit or does
 * not compile, returns this reason and does not call `work`.
 */
export function withChange<T>(copy: string, change: Change, work: () => T): T | Unfit {
  if (!fits(copy, change)) return 'does not fit';
  return withEdits(copy, [change], () => (compiles(copy) ? work() : 'does not compile'));
}

/** A replacement of a text that stands exactly once in a source file. */
export type Edit = Pick<Change, 'file' | 'from' | 'to'>;

/**
 * Makes edits in a copy, calls `work` and returns its result. Afterwards restores the source files.
 * The edits must fit.
 */
export function withEdits<T>(copy: string, edits: readonly Edit[], work: () => T): T {
  const paths = [...new Set(edits.map(({ file }) => join(copy, file)))];
  const before = paths.map((path) => readFileSync(path, 'utf8'));
  try {
    for (const { file, from, to } of edits) {
      const path = join(copy, file);
      writeFileSync(
        path,
        readFileSync(path, 'utf8').replace(from, () => to),
      );
    }
    return work();
  } finally {
    paths.forEach((path, i) => {
      writeFileSync(path, before[i] ?? '');
    });
  }
}

/** Returns the path of the program named `bin` that the installed package `name` provides. */
export function tool(name: string, bin: string): string {
  const file = join(root, 'node_modules', name, 'package.json');
  const { bin: bins } = JSON.parse(readFileSync(file, 'utf8')) as {
    readonly bin: string | Readonly<Record<string, string>>;
  };
  return join(dirname(file), typeof bins === 'string' ? bins : (bins[bin] ?? ''));
}
