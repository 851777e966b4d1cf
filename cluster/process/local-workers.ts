import type { ChildProcess } from 'node:child_process';
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { identityOf, isAlive, type ProcessIdentity } from '../host/process-identity.ts';
import { lastErrorIn } from './last-error.ts';
import type { Death } from './pod.ts';
import { readProcesses, startProcess, workerEnv } from './spawn.ts';

export interface LocalWorkersOptions {
  /** Folder of the pod, with logs and the list of its processes. */
  readonly folder: string;
  readonly tpus: number;
  /** Where workers find the master, on this machine. */
  readonly controlPort: number;
  /** Passed on to workers. */
  readonly env: NodeJS.ProcessEnv;
  /**
   * Told when the last process of a Cloud TPU has died, and why. Returns whether somebody else decides
   * about another one.
   */
  readonly died: (tpu: number, death: Death) => boolean;
  readonly log: (msg: string, fields: Readonly<Record<string, unknown>>) => void;
}

/** How often workers that another master has started are looked at, in ms. */
const lookMs = 250;
/** A process that lived less long than this, in ms, makes the next one wait. */
const shortLifeMs = 5000;
/** How long the next one waits after short lives in a row, in ms: doubled each time. */
const firstDelayMs = 100;
const delayMsMax = 5000;

/** The last process of a Cloud TPU. */
interface Watched {
  readonly identity: ProcessIdentity;
  readonly startedMs: number;
  /** Where its part of the log begins, in bytes. */
  readonly logStart: number;
  /** How many processes in a row have lived a short time only. */
  readonly shortLives: number;
  /** Whether this master has started it: then the system tells of its end. */
  readonly isChild: boolean;
  hasDied: boolean;
}

/**
 * The workers of a pod on this machine: the master starts a process for each Cloud TPU and watches
 * it, so that the death of a worker is known within a second whether it has joined or not.
 */
export class LocalWorkers {
  readonly #options: LocalWorkersOptions;
  /** By Cloud TPU. */
  readonly #watched: (Watched | undefined)[] = [];
  readonly #delayed: Set<NodeJS.Timeout> = new Set();
  readonly #looking: NodeJS.Timeout;
  #isClosed = false;

  constructor(options: LocalWorkersOptions) {
    this.#options = options;
    this.#looking = setInterval(() => this.#look(), lookMs);
    this.#looking.unref();
  }

  /** Takes over the workers that live, and starts one for each other Cloud TPU. */
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

  /** Starts another process for a Cloud TPU: the one before is lost, whether it lives or not. */
  replace(tpu: number): void {
    const before = this.#watched[tpu];
    if (before !== undefined) before.hasDied = true;
    this.#startLater(tpu, before);
  }

  /** Watches and starts nobody any more. Those who live are left alone. */
  close(): void {
    this.#isClosed = true;
    clearInterval(this.#looking);
    for (const timer of this.#delayed) clearTimeout(timer);
  }

  #isLive(tpu: number): boolean {
    const found = this.#watched[tpu];
    return found !== undefined && !found.hasDied && isAlive(found.identity);
  }

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
      this.#died(tpu, none, error instanceof Error ? error.message : String(error));
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

  /** Processes that another master has started are nobody's children: nobody tells of their end. */
  #look(): void {
    for (const [tpu, watched] of this.#watched.entries()) {
      if (watched === undefined || watched.isChild || watched.hasDied) continue;
      if (isAlive(watched.identity)) continue;
      this.#died(tpu, watched, 'it has ended');
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
