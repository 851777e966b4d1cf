import { type ChildProcess, spawn } from 'node:child_process';
import { appendFileSync, closeSync, existsSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { assert } from '../../src/numerics/assert.ts';

/** Processes of a pod on this machine, as a file in the pod's folder lists them. */
export interface PodProcesses {
  readonly master: number;
  /** By Cloud TPU: the last that was started. */
  readonly workers: readonly number[];
  /** Also those that were replaced. */
  readonly all: readonly number[];
}

/** The file's name: a line for each process, `master 123` or `tpu-0 124`. */
export const processesFile = 'processes';

/**
 * What keeps a worker small: there are many of them, and each has two isolates. A young generation
 * of 1 MB, because a step allocates next to nothing; one thread for the engine's own work; the
 * collector within reach (cluster/worker/collector.ts).
 */
export const leanFlags: readonly string[] = [
  '--max-semi-space-size=1',
  '--v8-pool-size=1',
  '--expose-gc',
];

/**
 * And of what lies outside of the heap: large blocks are pages of their own, which go back when
 * they are free, and all threads share two arenas. Hardly a file is read: two threads will do, of
 * which one may wait for the name of a master that is not there yet.
 */
export const leanEnv: Readonly<Record<string, string>> = {
  UV_THREADPOOL_SIZE: '2',
  MALLOC_ARENA_MAX: '2',
  MALLOC_MMAP_THRESHOLD_: '131072',
  MALLOC_TRIM_THRESHOLD_: '131072',
  MSGPACKR_NATIVE_ACCELERATION_DISABLED: 'true',
};

/** Starts a master or a worker that outlives its parent, its output in a log of its own. */
export function startProcess(folder: string, name: string, env: NodeJS.ProcessEnv): ChildProcess {
  const program = name === 'master' ? 'master' : 'worker';
  const file = fileURLToPath(new URL(`../${program}/main.js`, import.meta.url));
  const log = openSync(join(folder, `${name}.log`), 'a', 0o600);
  const flags = program === 'worker' ? leanFlags : [];
  const child = spawn(process.execPath, [...flags, file], {
    env: { ...leanEnv, ...env, POD_STATUS_FILE: join(folder, `${name}.status`) },
    detached: true,
    stdio: ['ignore', log, log],
  });
  closeSync(log);
  assert(child.pid !== undefined, `${name} did not start`);
  appendFileSync(join(folder, processesFile), `${name} ${child.pid}\n`, { mode: 0o600 });
  return child;
}

/** The environment of a worker of a pod on this machine. */
export function workerEnv(tpu: number, controlPort: number): NodeJS.ProcessEnv {
  return {
    ...{ POD_MASTER: `127.0.0.1:${controlPort}`, POD_TENSOR_PORT: '0' },
    ...{ TPU_WORKER_ID: String(tpu), POD_HOST: '127.0.0.1' },
  };
}

/** What the file in a folder lists; undefined when there is none. */
export function readProcesses(folder: string): PodProcesses | undefined {
  const path = join(folder, processesFile);
  if (!existsSync(path)) return undefined;
  let master = 0;
  const workers: number[] = [];
  const all: number[] = [];
  for (const line of readFileSync(path, 'utf8').split('\n').slice(0, -1)) {
    const [, name, tpu, pid] = /^(master|tpu-(\d+)) (\d+)$/.exec(line) ?? [];
    if (pid === undefined) continue;
    all.push(Number(pid));
    if (name === 'master') master = Number(pid);
    else workers[Number(tpu)] = Number(pid);
  }
  return { master, workers, all };
}
