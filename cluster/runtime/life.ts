import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import v8 from 'node:v8';
import type { Transferable } from 'node:worker_threads';
import { Piscina } from 'piscina';
import { assert } from '../../src/numerics/assert.ts';
import { messageOf, PodError } from '../../src/numerics/error.ts';
import { threadLimitError } from '../host/room.ts';

/**
 * A thread that runs one long task: the worker of a Cloud TPU, or a loader. When a thread is
 * replaced, the new thread has a TaskThread of its own.
 */
export interface TaskThread {
  /**
   * Ends the thread wherever it is in its task. Resolves when the thread no longer writes to
   * memory.
   */
  end(): Promise<void>;
  /**
   * Terminates the thread, for tests. The end of the thread is reported as if the thread had died
   * by itself.
   */
  kill(): void;
}

/**
 * Callbacks for the end of a thread. At most one of them is called, and none is called after {@link
 * TaskThread.end}.
 */
export interface LifeEvents {
  /** The task has returned. */
  done(result: unknown): void;
  /**
   * The task threw an error, the thread ended before the task had returned, or the thread could not
   * be started.
   */
  failed(error: unknown): void;
}

/** File, in the folder `cluster`, whose default export a thread runs. */
export type EntryFile = 'runtime/worker' | 'threads/loader';

/**
 * Starts a new thread that runs `task`. All failures, including a failed start, are reported
 * through `events`; the function itself does not throw.
 */
export function startTaskThread(
  file: EntryFile,
  task: unknown,
  transferList: Transferable[],
  events: LifeEvents,
  heapMbMax?: number,
): TaskThread {
  optimizeInPlace();
  const lack = threadLimitError();
  if (lack !== undefined) return stillborn(lack, events);
  const pool = new Piscina({
    filename: compiledPath(file),
    minThreads: 0,
    maxThreads: 1,
    concurrentTasksPerWorker: 1,
    idleTimeout: Number.POSITIVE_INFINITY,
    atomics: 'disabled',
    ...(heapMbMax !== undefined && { resourceLimits: { maxOldGenerationSizeMb: heapMbMax } }),
  });
  let isOver = false;
  const once = (tell: () => void): void => {
    if (!isOver) tell();
    isOver = true;
  };
  const failed = (error: unknown): void => once(() => events.failed(asPodError(error)));
  pool.on('error', failed);
  let result: Promise<unknown>;
  try {
    result = pool.run(task, { transferList });
  } catch (error) {
    return stillborn(asPodError(error), events);
  }
  result.then((value: unknown) => once(() => events.done(value)), failed);
  const [thread] = pool.threads;
  assert(thread !== undefined, 'a thread for the task');
  // If a thread ends before it has taken its task, Piscina reports nothing and keeps the task for
  // another thread. No other thread comes, so the failure is reported here.
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
    // Node aborts the whole process if a thread is terminated during an import
    // (`ModuleWrap::InstantiateSync`). So termination waits until the thread has loaded. After
    // that, the thread can be terminated at any point.
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

/**
 * Returns a TaskThread for a thread that could not be started. Soon after this function has
 * returned, `events.failed` is called with `error`, unless `end` is called first.
 */
function stillborn(error: unknown, events: LifeEvents): TaskThread {
  let isOver = false;
  // The report is delayed until the caller has received the TaskThread.
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

/**
 * Translates Node's errors about threads into a PodError: `out-of-threads` or `out-of-memory`.
 * Returns other errors unchanged.
 */
function asPodError(error: unknown): unknown {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  const why = messageOf(error);
  if (code === 'ERR_WORKER_INIT_FAILED') {
    const advice = 'raise the limit of threads (ulimit -u), or use fewer Cloud TPUs';
    return new PodError('out-of-threads', `no thread could be started: ${why}; ${advice}`, error);
  }
  if (code === 'ERR_WORKER_OUT_OF_MEMORY') {
    return new PodError('out-of-memory', `a thread ran out of memory: ${why}`, error);
  }
  return error;
}

/** Longest wait in ms for a thread to load before it is terminated anyway. */
const loadMsMax = 5000;

/**
 * Makes V8 optimize the code of each thread in the thread itself, not in a background thread. Node
 * before 24 needs this: it aborts if a thread ends while a background thread still optimizes code
 * (an assertion in `NodePlatform::ForIsolate`). No time is lost: all processors are busy anyway, so
 * background threads would only slow the other threads down.
 */
function optimizeInPlace(): void {
  const major = Number(process.versions.node.split('.')[0]);
  if (major < 24) v8.setFlagsFromString('--no-concurrent-recompilation');
}

/** Returns the path of a thread's compiled entry file, which lies in `dist`. */
function compiledPath(file: EntryFile): string {
  const compiled = import.meta.url.endsWith('.ts')
    ? `../../dist/cluster/${file}.js`
    : `../${file}.js`;
  return fileURLToPath(new URL(compiled, import.meta.url));
}
