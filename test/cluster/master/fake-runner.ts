import { setImmediate as turn } from 'node:timers/promises';
import { CommanderError } from 'commander';
import type { JobFiles } from '../../../cluster/master/job-files.ts';
import {
  type CheckJob,
  type JobHooks,
  type JobOutcome,
  JobServer,
  type JobToRun,
  type RunJob,
} from '../../../cluster/master/serve.ts';
import type { Report } from '../../../src/experiment/event.ts';
import { assert } from '../../../src/numerics/assert.ts';
import { PodError } from '../../../src/numerics/error.ts';

interface Running {
  readonly job: JobToRun;
  readonly hooks: JobHooks;
  readonly resolve: (outcome: JobOutcome) => void;
  readonly reject: (error: unknown) => void;
}

/** A runner whose jobs run nothing. A job ends when the test calls `done`, `fail` or `step`. */
export class FakeRunner {
  /** Ids of all jobs that were started, in order. */
  readonly begun: string[] = [];
  #running: Running | undefined;

  readonly run: RunJob = (job, hooks) => {
    assert(this.#running === undefined, `${job.id} was begun while another job ran`);
    this.begun.push(job.id);
    return new Promise((resolve, reject) => {
      this.#running = { job, hooks, resolve, reject };
    });
  };

  get job(): JobToRun | undefined {
    return this.#running?.job;
  }

  get hooks(): JobHooks {
    return this.#need().hooks;
  }

  async done(): Promise<void> {
    const { job, resolve } = this.#take();
    resolve({ kind: 'done', report: reportOf(job.id) });
    await turn();
  }

  async fail(error: unknown): Promise<void> {
    this.#take().reject(error);
    await turn();
  }

  /**
   * Ends the current step of the running job. If the server has asked the job to stop, the job
   * stops.
   */
  async step(): Promise<void> {
    if (this.#need().hooks.shouldStop()) this.#take().resolve({ kind: 'stopped', step: 1 });
    await turn();
  }

  #take(): Running {
    const running = this.#need();
    this.#running = undefined;
    return running;
  }

  #need(): Running {
    assert(this.#running !== undefined, 'no job runs');
    return this.#running;
  }
}

/**
 * Returns a report that lacks most fields. No code under test reads the missing fields.
 */
export function reportOf(id: string): Report {
  return { model: id, weightsDigest: '0123456789abcdef' } as Report;
}

/**
 * Stands in for the real check of a job's flags. Throws an error for each of the flags --bad,
 * --mistake, --large, --unknown and --help. The kind of the error depends on the flag.
 */
export const checkWords: CheckJob = (words) => {
  if (words.includes('--bad')) throw new PodError('bad-flag', '--bad: expected nothing');
  if (words.includes('--mistake')) throw new Error('a mistake of the check');
  if (words.includes('--large')) throw new PodError('out-of-hbm', 'expected less');
  if (words.includes('--unknown')) {
    throw new CommanderError(1, 'commander.unknownOption', "error: unknown option '--unknown'");
  }
  if (words.includes('--help')) throw new CommanderError(0, 'commander.help', '(outputHelp)');
  return words;
};

export interface Pod {
  readonly server: JobServer;
  readonly runner: FakeRunner;
}

/** Starts a job server with a fake runner. */
export async function startServer(
  folder: string,
  files: JobFiles | undefined,
  now: () => number,
): Promise<Pod> {
  const runner = new FakeRunner();
  const server = new JobServer({
    ...{ folder, run: runner.run, check: checkWords, now, log: () => {} },
    ...(files && { files }),
  });
  server.start();
  await turn();
  return { server, runner };
}
