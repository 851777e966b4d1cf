import { execFileSync } from 'node:child_process';

/** A Node on this machine. */
export interface Engine {
  readonly path: string;
  readonly version: string;
  readonly major: number;
}

/**
 * Other versions of Node to run compiled commands with: the variable `POD_TEST_ENGINES` has the
 * paths of their programs, with colons between them. Tests that need a version which is not there
 * are skipped.
 */
export const otherEngines: readonly Engine[] = (process.env['POD_TEST_ENGINES'] ?? '')
  .split(':')
  .filter((path) => path !== '')
  .map((path) => {
    const version = execFileSync(path, ['--version'], { encoding: 'utf8' }).trim().slice(1);
    return { path, version, major: Number.parseInt(version, 10) };
  });

/** The Node that runs the tests. */
export const thisEngine: Engine = {
  path: process.execPath,
  version: process.versions.node,
  major: Number.parseInt(process.versions.node, 10),
};

/** The first Node that fits. */
export function engineWith(fits: (engine: Engine) => boolean): Engine | undefined {
  return [thisEngine, ...otherEngines].find(fits);
}
