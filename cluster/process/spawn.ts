import { type ChildProcess, spawn } from 'node:child_process';
import { appendFileSync, closeSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { readRegularFile } from '../../src/files/read.ts';
import { PodError } from '../../src/numerics/error.ts';
import type { Lock } from '../host/lock.ts';
import { identityOf, type ProcessIdentity } from '../host/process-identity.ts';

/** Processes of a pod on this machine, as a file in the pod's folder lists them. */
export interface PodProcesses {
  /** Ends and restarts the others; undefined before it has started. */
  readonly supervisor: ProcessIdentity | undefined;
  readonly master: ProcessIdentity | undefined;
  /** By Cloud TPU: the last that was started. */
  readonly workers: readonly (ProcessIdentity | undefined)[];
  /** All but supervisors, also those that were replaced. */
  readonly all: readonly ProcessIdentity[];
}

/** The descriptor of the folder's lock in a supervisor. */
export const supervisorLock = 3;

/** The file's name. It has a line for each process: name, number and start, `tpu-0 124 5f2c-9021`. */
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
 * A master allocates for each message and request, whoever sends them: with a young generation of
 * 12 MB, instead of 48, it hardly grows while a million are thrown at it, and is as fast.
 */
export const masterFlags: readonly string[] = ['--max-semi-space-size=4'];

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

/**
 * Starts a master or a worker that outlives its parent, its output in a log of its own.
 *
 * @throws PodError `io` when the system does not start it: no more processes, no memory, a full disk.
 */
export function startProcess(folder: string, name: string, env: NodeJS.ProcessEnv): ChildProcess {
  const program = name === 'master' ? 'master' : 'worker';
  const flags = program === 'worker' ? leanFlags : masterFlags;
  return startProgram(folder, name, [...flags, programFile(program)], env);
}

/** Starts the supervisor of a pod, which goes on holding its folder. Throws as {@link startProcess}. */
export function startSupervisor(folder: string, lock: Lock): ChildProcess {
  const args = [programFile('supervisor'), folder];
  return startProgram(folder, 'supervisor', args, process.env, lock);
}

/** Notes down that a process belongs to the pod of a folder. */
export function noteProcess(folder: string, name: string, { pid, start }: ProcessIdentity): void {
  appendFileSync(join(folder, processesFile), `${name} ${pid} ${start}\n`, { mode: 0o600 });
}

function startProgram(
  folder: string,
  name: string,
  args: readonly string[],
  env: NodeJS.ProcessEnv,
  lock?: Lock,
): ChildProcess {
  const log = openSync(join(folder, `${name}.log`), 'a', 0o600);
  // `pod status` and others parse this log. Commands that show it to people turn it into text.
  const ours = { POD_LOG_FORMAT: 'json', POD_STATUS_FILE: join(folder, `${name}.status`) };
  let child: ChildProcess;
  try {
    child = spawn(process.execPath, args, {
      env: { ...leanEnv, ...env, ...ours },
      detached: true,
      stdio: ['ignore', log, log, ...(lock === undefined ? [] : [lock.file])],
    });
  } finally {
    closeSync(log);
  }
  // The event says again what the missing number says.
  child.on('error', () => undefined);
  const { pid } = child;
  if (pid === undefined) {
    throw new PodError('io', `${name} could not be started: ${child.spawnfile}: no process left?`);
  }
  noteProcess(folder, name, identityOf(pid) ?? { pid, start: '' });
  return child;
}

/** The compiled program: beside this file, or in `dist` when this is a source. */
function programFile(program: 'master' | 'worker' | 'supervisor'): string {
  const isSource = import.meta.url.endsWith('.ts');
  const folder = isSource ? '../../dist/cluster' : '..';
  return fileURLToPath(new URL(`${folder}/${program}/main.cjs`, import.meta.url));
}

/** The environment of a worker of a pod on this machine. */
export function workerEnv(tpu: number, controlPort: number): NodeJS.ProcessEnv {
  return {
    ...{ POD_MASTER: `127.0.0.1:${controlPort}`, POD_TENSOR_PORT: '0' },
    ...{ TPU_WORKER_ID: String(tpu), POD_HOST: '127.0.0.1' },
  };
}

/** The file has some 30 bytes for each process that was ever started. */
const processesBytesMax = 2 ** 20;

/**
 * What the file in a folder lists; undefined when there is none.
 *
 * @throws PodError `bad-data`, or `io` of the system, when there is one that cannot be used.
 */
export function readProcesses(folder: string): PodProcesses | undefined {
  const path = join(folder, processesFile);
  const file = readRegularFile(path, processesBytesMax);
  if (file.kind === 'missing') return undefined;
  if (file.kind === 'refused') {
    throw damagedProcesses(path, file.found, file.cause === undefined ? 'bad-data' : 'io');
  }
  const found = processesIn(file.bytes.toString('utf8'));
  if (found.supervisor !== undefined || found.all.length > 0) return found;
  throw damagedProcesses(path, file.bytes.length === 0 ? 'an empty file' : 'none', 'bad-data');
}

function damagedProcesses(path: string, found: string, code: 'bad-data' | 'io'): PodError {
  return new PodError(code, `${path}: expected a list of the pod's processes, found ${found}`);
}

function processesIn(text: string): PodProcesses {
  let supervisor: ProcessIdentity | undefined;
  let master: ProcessIdentity | undefined;
  const workers: (ProcessIdentity | undefined)[] = [];
  const all: ProcessIdentity[] = [];
  for (const line of text.split('\n').slice(0, -1)) {
    const [, name, tpu, pid, start = ''] = linePattern.exec(line) ?? [];
    if (pid === undefined) continue;
    const identity = { pid: Number(pid), start };
    if (name === 'supervisor') {
      supervisor = identity;
      continue;
    }
    all.push(identity);
    if (name === 'master') master = identity;
    else workers[Number(tpu)] = identity;
  }
  return { supervisor, master, workers, all };
}

const linePattern = /^(supervisor|master|tpu-(\d{1,3})) (\d{1,10}) ([\w:-]*)$/;
