import { execFileSync } from 'node:child_process';

/** An installation of Node on this machine. `version` is its version, for example `22.1.0`. */
export interface Engine {
  readonly path: string;
  readonly version: string;
  readonly major: number;
}

/**
 * Other installations of Node, with which tests run compiled commands. The environment variable
 * `POD_TEST_ENGINES` has the path of each `node` program, separated by colons. A test is skipped if
 * the version of Node that it needs is missing.
 */
export const otherEngines: readonly Engine[] = (process.env['POD_TEST_ENGINES'] ?? '')
  .split(':')
  .filter((path) => path !== '')
  .map((path) => {
    const version = execFileSync(path, ['--version'], { encoding: 'utf8' }).trim().slice(1);
    return { path, version, major: Number.parseInt(version, 10) };
  });

/** The installation of Node that runs the tests. */
export const thisEngine: Engine = {
  path: process.execPath,
  version: process.versions.node,
  major: Number.parseInt(process.versions.node, 10),
};

/** Returns the first installation of Node for which `fits` returns true. Undefined if none does. */
export function engineWith(fits: (engine: Engine) => boolean): Engine | undefined {
  return [thisEngine, ...otherEngines].find(fits);
}
