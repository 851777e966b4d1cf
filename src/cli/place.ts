import { existsSync } from 'node:fs';
import type { Command } from 'commander';
import { tokenPath } from '../../cluster/net/token.ts';
import { PodError } from '../numerics/error.ts';
import { quote } from '../numerics/quote.ts';
import { noPod } from './local-pod.ts';
import { podFile, readApiPort } from './pod-file.ts';

/** Flags that say where the API of a master is. */
export interface MasterFlags {
  readonly api?: string;
  readonly dir?: string;
}

/** Address of a master's API, and the folder of the master's pod if it is known. */
export interface MasterPlace {
  /** Origin of the master's API, such as `http://127.0.0.1:7080`. */
  readonly origin: string;
  /**
   * Folder of the pod if the master was found through a folder of `pod up`, otherwise undefined.
   */
  readonly folder: string | undefined;
}

export const whereMasterIs = `
The master is found by --api, otherwise by --dir, otherwise by POD_API, otherwise by the folder .pod of
pod up, otherwise (in a container of a pod) at http://127.0.0.1:7080.
`;

/**
 * Finds the master by the first of these places that is given:
 *
 * 1. the flag `--api`;
 * 2. the flag `--dir`;
 * 3. the environment variable `POD_API`;
 * 4. the folder `.pod` of `pod up`;
 * 5. in a container of a pod, the fixed port of the API.
 *
 * @throws PodError `bad-flag` if the place is invalid, or if no place is given and no pod is found;
 * `bad-data` if the file `pod.json` in the folder is damaged.
 */
export function findMaster({ api, dir }: MasterFlags): MasterPlace {
  if (api !== undefined) return { origin: originOf('--api', api), folder: undefined };
  const named = process.env['POD_API'];
  if (named !== undefined && dir === undefined) {
    return { origin: originOf('POD_API', named), folder: undefined };
  }
  const folder = folderOf(dir);
  if (folder !== undefined) return { origin: `http://127.0.0.1:${apiPortOf(folder)}`, folder };
  if (!existsSync(tokenPath(process.env))) {
    const next = 'start a pod with pod up (for jobs: pod up --serve), or name a master by --api';
    throw new PodError('bad-flag', `--dir ${defaultDir}: expected a pod, found none; ${next}`);
  }
  return { origin: `http://127.0.0.1:${containerPort}`, folder: undefined };
}

/**
 * Returns the folder of `pod up`: `dir` if given, otherwise `.pod` if it holds a pod, otherwise
 * undefined.
 */
export function folderOf(dir: string | undefined): string | undefined {
  return dir ?? (existsSync(podFile(defaultDir)) ? defaultDir : undefined);
}

/** Adds the flags that say where a master is. */
export function withMaster(command: Command): Command {
  return command
    .option('--api <url>', "the master's API, such as http://127.0.0.1:7080")
    .option('--dir <dir>', 'folder of a pod that pod up started (default .pod)');
}

const defaultDir = '.pod';
const containerPort = 7080;

function apiPortOf(folder: string): number {
  const port = readApiPort(folder);
  if (port !== undefined) return port;
  throw noPod(folder);
}

function originOf(name: string, text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (/^https?:$/.test(url?.protocol ?? '') && url?.pathname === '/' && url.search === '') {
    return url.origin;
  }
  throw new PodError('bad-flag', `${name}: expected http://HOST:PORT, found ${quote(text)}`);
}
