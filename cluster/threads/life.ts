import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import v8 from 'node:v8';
import type { Transferable } from 'node:worker_threads';
import { Piscina } from 'piscina';
import { assert } from '../../src/numerics/assert.ts';
import { PodError } from '../../src/numerics/error.ts';
import { lackForThread } from '../host/room.ts';

/** A thread that runs one long task; what a Cloud TPU or a loader lives in, one after another. */
export interface Life {
  /** Ends the thread, whatever it does; resolves once it surely writes nothing any more. */
  end(): Promise<void>;
  /** Ends it from outside, as if it had died: for tests. */
  kill(): void;
}

/** How a life ends unless it is ended. */
export interface LifeEvents {
  /** The task is done. */
  done(result: unknown): void;
  /** It threw, or the thread ended. */
  failed(error: unknown): void;
}

/** Starts a thread of its own for `task`. Nothing is heard of it after `end`. */
export function startLife(
  file: 'worker' | 'loader',
  task: unknown,
  transferList: Transferable[],
  events: LifeEvents,
): Life {
  optimizeInPlace();
  const lack = lackForThread();
  if (lack !== undefined) return stillborn(lack, events);
  const pool = new Piscina({
    filename: compiledPath(file),
    minThreads: 0,
    maxThreads: 1,
    concurrentTasksPerWorker: 1,
    idleTimeout: Number.POSITIVE_INFINITY,
    atomics: 'disabled',
  });
  let isOver = false;
  const once = (tell: () => void): void => {
    if (!isOver) tell();
    isOver = true;
  };
  const failed = (error: unknown): void => once(() => events.failed(inOurWords(error)));
  pool.on('error', failed);
  let result: Promise<unknown>;
  try {
    result = pool.run(task, { transferList });
  } catch (error) {
    return stillborn(inOurWords(error), events);
  }
  result.then((value: unknown) => once(() => events.done(value)), failed);
  const [thread] = pool.threads;
  assert(thread !== undefined, 'a thread for the task');
  // A thread that ends before it has taken its task leaves the task waiting for another.
  thread.on('exit', (code) => failed(new Error(`worker exited with code: ${code}`)));
  let isLoaded = false;
  const loaded = new Promise<void>((resolve) => {
    const tell = (): void => {
      isLoaded = true;
      resolve();
    };
    pool.once('workerCreate', tell);
    thread.once('exit', tell);
  });
  const terminate = async (): Promise<void> => {
    // Node aborts when a thread is ended in the middle of an import (`ModuleWrap::InstantiateSync`).
    // One that has loaded ends at once, in the middle of what it does.
    if (!isLoaded) await Promise.race([loaded, sleep(loadMsMax, undefined, { ref: false })]);
    await thread.terminate();
  };
  return {
    async end() {
      isOver = true;
      await terminate();
      await pool.destroy();
    },
    kill: () => void terminate(),
  };
}

/** The life of a thread that could not be started: it is told as one that has failed. */
function stillborn(error: unknown, events: LifeEvents): Life {
  let isOver = false;
  // Whoever starts it learns of it first.
  setImmediate(() => {
    if (!isOver) events.failed(error);
  });
  return {
    async end() {
      isOver = true;
    },
    kill: () => undefined,
  };
}

/** What Node says when the system, or a limit of memory, does not allow a thread. */
function inOurWords(error: unknown): unknown {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  const why = error instanceof Error ? error.message : String(error);
  if (code === 'ERR_WORKER_INIT_FAILED') {
    const advice = 'raise the limit of threads (ulimit -u), or use fewer Cloud TPUs';
    return new PodError('out-of-threads', `no thread could be started: ${why}; ${advice}`, error);
  }
  if (code === 'ERR_WORKER_OUT_OF_MEMORY') {
    return new PodError('out-of-memory', `a thread has no memory left: ${why}`, error);
  }
  return error;
}

/** How long a thread may take to load its program before it is ended all the same, in ms. */
const loadMsMax = 5000;

/**
 * Lets threads optimize their code themselves instead of on another thread: Node before 24 aborts
 * when that is still at it as they end (an assertion in `NodePlatform::ForIsolate`). They have every
 * processor busy anyway.
 */
function optimizeInPlace(): void {
  const major = Number(process.versions.node.split('.')[0]);
  if (major < 24) v8.setFlagsFromString('--no-concurrent-recompilation');
}

/** The compiled entry file of a thread: beside this file, or in `dist` when this is a source. */
function compiledPath(file: 'worker' | 'loader'): string {
  const compiled = import.meta.url.endsWith('.ts')
    ? `../../dist/cluster/threads/${file}.js`
    : `./${file}.js`;
  return fileURLToPath(new URL(compiled, import.meta.url));
}
