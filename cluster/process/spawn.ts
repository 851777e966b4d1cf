import { type ChildProcess, spawn } from 'node:child_process';
import { appendFileSync, closeSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { readRegularFile } from '../../src/files/read.ts';
import { PodError } from '../../src/numerics/error.ts';
import type { Lock } from '../host/lock.ts';
import { identityOf, type ProcessIdentity } from '../host/process-identity.ts';

/**
 * Processes of a pod on this machine, as listed in the file {@link processesFile} of the pod's
 * folder.
 */
export interface PodProcesses {
  /** The supervisor, which starts and restarts the master; undefined before it has started. */
  readonly supervisor: ProcessIdentity | undefined;
  readonly master: ProcessIdentity | undefined;
  /**
   * The process that was started last for each Cloud TPU, indexed by the number of the Cloud TPU.
   */
  readonly workers: readonly (ProcessIdentity | undefined)[];
  /** All masters and workers that the list names, including those that were replaced. */
  readonly all: readonly ProcessIdentity[];
}

/** File descriptor under which a supervisor inherits the lock of the pod's folder. */
export const supervisorLock = 3;

/**
 * Name of the file that lists the processes of a pod. Each process has a line with its name, its
 * pid and its start time, for example `tpu-0 124 5f2c-9021`. On Linux the start time has a prefix
 * that names the boot.
 */
export const processesFile = 'processes';

/**
 * Node flags that save memory in workers. A pod has many workers, each with two V8 isolates. The
 * first flag limits V8's young generation to three times its value, which is 3 MB. This suffices,
 * because a step allocates almost nothing. The second flag gives V8 one thread for its own work.
 * The third flag makes the function `gc` available, which collects garbage at once.
 */
export const leanFlags: readonly string[] = [
  '--max-semi-space-size=1',
  '--v8-pool-size=1',
  '--expose-gc',
];

/**
 * Node flags of a master. A master allocates memory for every message and request. The flag limits
 * V8's young generation to three times its value, which is 12 MB instead of 48 MB. With this limit,
 * the memory of a master hardly grows in a million requests, and the master is not slower.
 */
export const masterFlags: readonly string[] = ['--max-semi-space-size=4'];

/**
 * Environment variables that save memory outside of V8's heap. The thread pool of libuv gets only
 * two threads: one reads files, the other looks up the master's host name, which can take long. The
 * settings of malloc make all threads share two pools of memory (arenas), and make malloc return
 * large freed blocks to the system.
 */
export const leanEnv: Readonly<Record<string, string>> = {
  UV_THREADPOOL_SIZE: '2',
  MALLOC_ARENA_MAX: '2',
  MALLOC_MMAP_THRESHOLD_: '131072',
  MALLOC_TRIM_THRESHOLD_: '131072',
  MSGPACKR_NATIVE_ACCELERATION_DISABLED: 'true',
};

/**
 * Starts a master or a worker that outlives its parent and writes to its own log.
 *
 * @throws PodError `io` if the system cannot start the process: too many processes, no memory, or a
 *   full disk.
 */
export function startProcess(folder: string, name: string, env: NodeJS.ProcessEnv): ChildProcess {
  const program = name === 'master' ? 'master' : 'worker';
  const flags = program === 'worker' ? leanFlags : masterFlags;
  return startProgram(folder, name, [...flags, programFile(program)], env);
}

/**
 * Starts the supervisor of a pod. The supervisor inherits the lock of the pod's folder and keeps
 * it. Throws the same errors as {@link startProcess}.
 */
export function startSupervisor(folder: string, lock: Lock): ChildProcess {
  const args = [programFile('supervisor'), folder];
  return startProgram(folder, 'supervisor', args, process.env, lock);
}

/** Appends the given process to the list of processes in the pod's folder. */
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
  // `pod status` and other commands parse this log as JSON. When they print a line of the log, they
  // format the line as text.
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
  // If the start fails, the pid is undefined, and an error is thrown below. So the event `error`
  // can be ignored.
  child.on('error', () => undefined);
  const { pid } = child;
  if (pid === undefined) {
    throw new PodError(
      'io',
      `${name} could not be started: ${child.spawnfile}: the limit of processes may be reached`,
    );
  }
  noteProcess(folder, name, identityOf(pid) ?? { pid, start: '' });
  return child;
}

/**
 * Returns the path of a compiled program: beside this file, or in `dist` if this file is a source.
 */
function programFile(program: 'master' | 'worker' | 'supervisor'): string {
  const isSource = import.meta.url.endsWith('.ts');
  const folder = isSource ? '../../dist/cluster' : '..';
  return fileURLToPath(new URL(`${folder}/${program}/main.cjs`, import.meta.url));
}

/** Returns the environment variables of a worker of a pod on this machine. */
export function workerEnv(tpu: number, controlPort: number): NodeJS.ProcessEnv {
  return {
    ...{ POD_MASTER: `127.0.0.1:${controlPort}`, POD_TENSOR_PORT: '0' },
    ...{ TPU_WORKER_ID: String(tpu), POD_HOST: '127.0.0.1' },
  };
}

/**
 * Largest size in bytes of the list of processes in a pod's folder. A longer list is refused. Every
 * start of a process adds a line of about 30 bytes, so the limit allows about 35,000 starts.
 */
const processesBytesMax = 2 ** 20;

/**
 * Reads the list of processes in the given folder; undefined if there is none.
 *
 * @throws PodError `bad-data` if the list is damaged, `io` if the system cannot read it.
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
