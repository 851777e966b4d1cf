import { once } from 'node:events';
import { rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { PodFile } from '../../src/cli/pod-file.ts';
import { PodError } from '../../src/numerics/error.ts';
import { finalExitCodes } from '../final.ts';
import { type EndSignal, exitCodeOf, isStopCode } from '../host/ending.ts';
import { readInteger } from '../host/environment.ts';
import {
  identityOf,
  isAlive,
  ownIdentity,
  type ProcessIdentity,
} from '../host/process-identity.ts';
import { limits } from '../limits.ts';
import { lastErrorIn } from '../process/last-error.ts';
import { processesOfFolder } from '../process/of-folder.ts';
import { removeSocketFiles } from '../process/socket-file.ts';
import { noteProcess, readProcesses, startProcess } from '../process/spawn.ts';
import { type PodEnd, writePodEnd } from './pod-end.ts';

/** Constructor arguments of a {@link Supervisor}. */
export interface SupervisorOptions {
  /** Absolute path of the pod's folder. */
  readonly folder: string;
  readonly pod: PodFile;
  readonly log: (msg: string, fields: Readonly<Record<string, unknown>>) => void;
}

/**
 * How many times in succession a crashed master is restarted if `POD_MASTER_RESTARTS` is not set.
 */
const restartsMax = 5;
/**
 * Delay in ms before the first restart. Each further crash in succession doubles the delay, up to
 * `delayMsMax`.
 */
const firstDelayMs = 100;
const delayMsMax = 10_000;
/** Workers that still run this long, in ms, after the end of the master receive SIGTERM. */
const homeMs = 1000;
/** Workers that still run this long, in ms, after SIGTERM receive SIGKILL. */
const endMs = 12_000;
/** Longest time in ms that the supervisor waits for workers to end after SIGKILL. */
const killedMs = 2000;

/**
 * Keeps a pod of processes running: starts the pod's master and restarts the master after a crash.
 * When the run has ended, ends all remaining processes of the pod. The master, not the supervisor,
 * starts the workers.
 */
export class Supervisor {
  readonly #options: SupervisorOptions;
  #master: ProcessIdentity | undefined;
  /** The first signal that asked the supervisor to end the pod; undefined if there was none. */
  #asked: EndSignal | undefined;

  constructor(options: SupervisorOptions) {
    this.#options = options;
  }

  /** Runs the pod. Resolves when the pod has ended and its end is recorded in the folder. */
  async run(): Promise<PodEnd> {
    const { folder } = this.#options;
    noteProcess(folder, 'supervisor', ownIdentity());
    const end = await this.#untilEnd();
    await endWorkers(folder);
    writePodEnd(folder, end);
    return end;
  }

  /**
   * Ends the pod: forwards the signal to the master, which is not restarted any more. At the first
   * signal, the master finishes the running step and ends. At a second signal, it ends at once.
   */
  end(signal: EndSignal): void {
    this.#asked ??= signal;
    signalTo(this.#master, signal);
  }

  /**
   * Runs the master, and restarts it after each crash. Stops restarting in three cases: the master
   * has ended without a crash, a signal has asked the supervisor to end the pod, or the master has
   * crashed too often in succession (see {@link restartsFrom}). Returns the end of the last master.
   */
  async #untilEnd(): Promise<PodEnd> {
    const { log } = this.#options;
    for (let restarts = 0; ; ) {
      const startMs = performance.now();
      const end = await this.#runMaster();
      if (this.#asked !== undefined || finalExitCodes.includes(end.exitCode)) return end;
      restarts = performance.now() - startMs > limits.longLifeMs ? 1 : restarts + 1;
      const most = restartsFrom(process.env);
      if (restarts > most) {
        const often = restarts === 1 ? '' : ` ${restarts} times in a row`;
        return { ...end, reason: `the master crashed${often}; ${end.reason}` };
      }
      log('master-crashed', { exitCode: end.exitCode, cause: end.reason, restarts });
      await sleep(Math.min(delayMsMax, firstDelayMs * 2 ** (restarts - 1)));
    }
  }

  /**
   * Starts a master and waits until it exits. Returns how the master ended; the reason is the last
   * error in the master's log.
   */
  async #runMaster(): Promise<PodEnd> {
    const { folder, pod } = this.#options;
    if (this.#asked !== undefined) return stopped(this.#asked);
    const path = join(folder, 'master.log');
    const logStart = statSync(path, { throwIfNoEntry: false })?.size ?? 0;
    const child = startProcess(folder, 'master', masterEnv(folder, pod));
    this.#master = child.pid === undefined ? undefined : identityOf(child.pid);
    const [code, signal] = (await once(child, 'exit')) as [number | null, NodeJS.Signals | null];
    this.#master = undefined;
    if (this.#asked !== undefined && (signal !== null || isStopCode(code ?? 0))) {
      return stopped(this.#asked);
    }
    const found = lastErrorIn(path, logStart);
    if (code === 0) return { exitCode: 0, code: undefined, reason: undefined };
    const how = signal === null ? `exit code ${code}` : `killed by ${signal}`;
    const reason = found?.message ?? `the master ended (${how}), and ${path} does not say why`;
    return { exitCode: code ?? 137, code: found?.code, reason };
  }
}

/** Returns the environment variables of the master of a pod on this machine. */
function masterEnv(folder: string, pod: PodFile): NodeJS.ProcessEnv {
  const { controlPort, apiPort, args, serve, tpus } = pod;
  return {
    ...process.env,
    ...{ POD_TOKEN_FILE: join(folder, 'token'), POD_JOB: `pod-${process.pid}` },
    ...(serve
      ? { POD_MODE: 'serve', TPUS: String(tpus), POD_ARGS: args }
      : { POD_MODE: 'job', TPUS: '', POD_ARGS: args }),
    ...{ POD_DATA_DIR: folder, POD_FOLDER: folder },
    ...{ POD_CONTROL_HOST: '127.0.0.1', POD_CONTROL_PORT: String(controlPort) },
    ...{ POD_API_HOST: '127.0.0.1', POD_API_PORT: String(apiPort) },
  };
}

/**
 * Returns how many times in succession a crashed master is restarted: the value of
 * `POD_MASTER_RESTARTS`, or {@link restartsMax}. The crash of a master that has lived longer than
 * `limits.longLifeMs` begins a new count.
 *
 * @throws PodError `bad-config` if the value is not a whole number in range.
 */
export function restartsFrom(env: NodeJS.ProcessEnv): number {
  return readInteger(env, 'POD_MASTER_RESTARTS', { min: 0, max: 999_999 }) ?? restartsMax;
}

function stopped(signal: EndSignal): PodEnd {
  return { exitCode: exitCodeOf(signal), code: undefined, reason: undefined };
}

/**
 * Ends the masters and workers of the pod in the given folder: waits for them to end by themselves,
 * then sends SIGTERM, then SIGKILL. Afterwards removes the unix sockets of the ended processes, and
 * the status files of the master and the supervisor.
 */
export async function endWorkers(folder: string): Promise<void> {
  const all = (): readonly ProcessIdentity[] => listedIn(folder);
  await untilEnded(all(), homeMs);
  for (const it of all()) signalTo(it, 'SIGTERM');
  await untilEnded(all(), endMs);
  for (const it of all()) signalTo(it, 'SIGKILL');
  await untilEnded(all(), killedMs);
  const gone = all().filter((it) => !isAlive(it));
  removeSocketFiles(gone.map(({ pid }) => pid));
  for (const name of ['master', 'supervisor'])
    rmSync(join(folder, `${name}.status`), { force: true });
}

/**
 * Returns the masters and workers of the pod in the given folder. The folder has a list of these
 * processes. If the list is missing or damaged, returns the processes whose environment variables
 * name the folder.
 */
function listedIn(folder: string): readonly ProcessIdentity[] {
  try {
    const listed = readProcesses(folder);
    if (listed !== undefined) return listed.all;
  } catch (error) {
    if (!(error instanceof PodError)) throw error;
  }
  return processesOfFolder(folder);
}

/**
 * Waits until all processes have ended, but at most `withinMs` ms. Afterwards the caller must check
 * whether a process is still alive.
 */
export async function untilEnded(
  processes: readonly (ProcessIdentity | undefined)[],
  withinMs: number,
): Promise<void> {
  const startMs = performance.now();
  while (processes.some((it) => it !== undefined && isAlive(it))) {
    if (performance.now() - startMs > withinMs) return;
    await sleep(20);
  }
}

/** Sends a signal to a process if it is alive. */
export function signalTo(it: ProcessIdentity | undefined, signal: NodeJS.Signals): void {
  if (it === undefined || !isAlive(it)) return;
  try {
    process.kill(it.pid, signal);
  } catch (error) {
    // ESRCH: the process has ended meanwhile.
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}
