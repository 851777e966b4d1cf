import type { ChildProcess } from 'node:child_process';
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { messageOf } from '../../src/numerics/error.ts';
import { identityOf, isAlive, type ProcessIdentity } from '../host/process-identity.ts';
import { lastErrorIn } from './last-error.ts';
import type { Death } from './pod.ts';
import { readProcesses, startProcess, workerEnv } from './spawn.ts';

/** Constructor arguments of {@link LocalWorkers}. */
export interface LocalWorkersOptions {
  /** Folder of the pod, which holds the logs and the list of processes. */
  readonly folder: string;
  readonly tpus: number;
  /** TCP port of the master's control channel on this machine. */
  readonly controlPort: number;
  /** Environment variables for the workers' processes. */
  readonly env: NodeJS.ProcessEnv;
  /**
   * Called when the process of Cloud TPU `tpu` has died. Returns true if the pod handles the loss;
   * the pod then calls `replace` when it wants a new process. Returns false if the pod does not
   * handle the loss; LocalWorkers then starts a new process itself.
   */
  readonly died: (tpu: number, death: Death) => boolean;
  readonly log: (msg: string, fields: Readonly<Record<string, unknown>>) => void;
}

/**
 * Interval in ms between two checks whether the workers that an earlier master started are alive.
 * The workers that this master has started are its child processes, so Node reports their exit.
 */
const lookMs = 250;
/**
 * A process that lives for less than this many ms counts as short-lived. If two or more processes
 * of a Cloud TPU in succession were short-lived, the next start for that Cloud TPU is delayed.
 */
const shortLifeMs = 5000;
/**
 * Delay in ms of the next start for a Cloud TPU with two short-lived processes in succession. Each
 * further short-lived process doubles the delay.
 */
const firstDelayMs = 100;
/** Upper limit of the delay, in ms, after any number of short-lived processes. */
const delayMsMax = 5000;

/** The process that was started last for a Cloud TPU. */
interface Watched {
  readonly identity: ProcessIdentity;
  readonly startedMs: number;
  /**
   * Size in bytes of the worker's log when this process started. The log lines of this process
   * begin at this offset.
   */
  readonly logStart: number;
  /**
   * How many short-lived processes this Cloud TPU had in succession, directly before this process.
   */
  readonly shortLives: number;
  /** True if this master started the process, so that Node reports its exit. */
  readonly isChild: boolean;
  /** True if the process has died or is being replaced. */
  hasDied: boolean;
}

/**
 * Starts and watches the workers of a pod on this machine, one process for each Cloud TPU. The
 * master learns of a worker's death within a second, even if the worker had not joined yet.
 */
export class LocalWorkers {
  readonly #options: LocalWorkersOptions;
  /** The process that is watched for each Cloud TPU, indexed by the number of the Cloud TPU. */
  readonly #watched: (Watched | undefined)[] = [];
  /** Timers of delayed starts. */
  readonly #delayed: Set<NodeJS.Timeout> = new Set();
  readonly #looking: NodeJS.Timeout;
  #isClosed = false;

  constructor(options: LocalWorkersOptions) {
    this.#options = options;
    this.#looking = setInterval(() => this.#look(), lookMs);
    this.#looking.unref();
  }

  /**
   * Takes over the workers that an earlier master started, if the pod's folder lists them and they
   * are alive. Starts a worker for every other Cloud TPU.
   */
  startAll(): void {
    const { folder, tpus } = this.#options;
    const before = readProcesses(folder)?.workers ?? [];
    for (let tpu = 0; tpu < tpus; tpu++) {
      if (this.#isLive(tpu)) continue;
      const found = this.#watched[tpu] === undefined ? before[tpu] : undefined;
      if (found !== undefined && isAlive(found)) this.#watch(tpu, found, {});
      else this.#start(tpu);
    }
  }

  /**
   * Starts a new process for the given Cloud TPU. From now on the old process counts as dead, even
   * if it is still alive.
   */
  replace(tpu: number): void {
    const before = this.#watched[tpu];
    if (before !== undefined) before.hasDied = true;
    this.#startLater(tpu, before);
  }

  /** Stops watching and starting workers. Live workers keep running. */
  close(): void {
    this.#isClosed = true;
    clearInterval(this.#looking);
    for (const timer of this.#delayed) clearTimeout(timer);
  }

  #isLive(tpu: number): boolean {
    const found = this.#watched[tpu];
    return found !== undefined && !found.hasDied && isAlive(found.identity);
  }

  /**
   * Starts a new process for the given Cloud TPU. After two or more short-lived processes in
   * succession, starts the new process with a delay.
   */
  #startLater(tpu: number, before: Watched | undefined): void {
    const shortLives = before === undefined ? 0 : shortLivesAfter(before);
    if (shortLives < 2) {
      this.#start(tpu, shortLives);
      return;
    }
    const delayMs = Math.min(firstDelayMs * 2 ** (shortLives - 2), delayMsMax);
    const timer = setTimeout(() => {
      this.#delayed.delete(timer);
      this.#start(tpu, shortLives);
    }, delayMs);
    this.#delayed.add(timer);
  }

  #start(tpu: number, shortLives = 0): void {
    if (this.#isClosed) return;
    const { folder, controlPort, env, log } = this.#options;
    const name = `tpu-${tpu}`;
    const logStart = sizeOf(join(folder, `${name}.log`));
    const life = { logStart, shortLives };
    let child: ChildProcess;
    try {
      child = startProcess(folder, name, { ...env, ...workerEnv(tpu, controlPort) });
    } catch (error) {
      const none = this.#watch(tpu, { pid: 0, start: '' }, life);
      this.#died(tpu, none, messageOf(error));
      return;
    }
    const { pid = 0 } = child;
    log('worker-started', { tpu, pid });
    const identity = identityOf(pid) ?? { pid, start: '' };
    const watched = this.#watch(tpu, identity, { ...life, isChild: true });
    child.once('exit', (code, signal) => this.#died(tpu, watched, inWords(code, signal)));
    child.unref();
  }

  #watch(tpu: number, identity: ProcessIdentity, life: Partial<Watched>): Watched {
    const watched: Watched = {
      ...{ identity, startedMs: performance.now(), hasDied: false },
      ...{ logStart: 0, shortLives: 0, isChild: false, ...life },
    };
    this.#watched[tpu] = watched;
    return watched;
  }

  /**
   * Looks for deaths among the workers that an earlier master started. They are not children of
   * this process, so Node does not report their exit.
   */
  #look(): void {
    for (const [tpu, watched] of this.#watched.entries()) {
      if (watched === undefined || watched.isChild || watched.hasDied) continue;
      if (isAlive(watched.identity)) continue;
      this.#died(tpu, watched, 'the process has ended');
    }
  }

  #died(tpu: number, watched: Watched, how: string): void {
    if (watched.hasDied || this.#isClosed) return;
    watched.hasDied = true;
    const error = lastErrorIn(join(this.#options.folder, `tpu-${tpu}.log`), watched.logStart);
    const cause = error === undefined ? how : `${how}: ${error.message}`;
    const death = { pid: watched.identity.pid, cause, code: error?.code ?? null };
    const isDecided = this.#options.died(tpu, death);
    if (!isDecided) this.#startLater(tpu, watched);
  }
}

function shortLivesAfter({ startedMs, shortLives }: Watched): number {
  return performance.now() - startedMs < shortLifeMs ? shortLives + 1 : 0;
}

function inWords(code: number | null, signal: NodeJS.Signals | null): string {
  return signal === null ? `exit code ${code}` : `killed by ${signal}`;
}

function sizeOf(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.size ?? 0;
}
