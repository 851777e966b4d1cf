import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import type { Environment } from '../../cluster/host/environment.ts';
import { noTime, sign } from '../../cluster/master/auth.ts';
import { waitMsMax } from '../../cluster/master/job-api.ts';
import {
  type DamagedJob,
  damagedSchema,
  type Job,
  jobSchema,
  type LoadedJobs,
  summarySchema,
} from '../../cluster/master/jobs.ts';
import { readToken, type Token } from '../../cluster/net/token.ts';
import type { Report } from '../experiment/event.ts';
import { parseJson } from '../files/json.ts';
import { mismatch } from '../files/mismatch.ts';
import { type ErrorCode, errorCodes, PodError } from '../numerics/error.ts';
import { type HttpAnswer, request } from './http.ts';
import { findMaster, folderOf, type MasterFlags } from './place.ts';
import { endOfPod } from './pod-state.ts';

/** Flags that say where a master is and which file contains the token that the master accepts. */
export interface PlaceFlags extends MasterFlags {
  readonly tokenFile?: string;
}

/**
 * Returns a client for the master that {@link findMaster} finds. The client signs requests with a
 * token. The file of the token is the first of these that is known:
 *
 * 1. the file that `--token-file` names;
 * 2. the file that `POD_TOKEN_FILE` names, unless `--dir` is given;
 * 3. the file `token` in the folder of `pod up`;
 * 4. the token file of a container.
 *
 * @throws PodError `bad-flag` or `bad-config` if the place of the master or the token is invalid,
 * `io` if there is no token.
 */
export function openJobClient({ tokenFile, ...flags }: PlaceFlags): JobClient {
  const { origin, folder } = findMaster(flags);
  const { token, warning } = readToken(tokenEnv(tokenFile, flags.dir));
  if (warning !== undefined) process.stderr.write(`pod: ${warning}\n`);
  return new JobClient(origin, token, folder);
}

function tokenEnv(tokenFile: string | undefined, dir: string | undefined): Environment {
  const named = tokenFile ?? (dir === undefined ? process.env['POD_TOKEN_FILE'] : undefined);
  const folder = folderOf(dir);
  const path = named ?? (folder === undefined ? undefined : join(folder, 'token'));
  return path === undefined ? {} : { POD_TOKEN_FILE: path };
}

/** A job as the API returns it. `report` is present if the job is done. */
export interface FoundJob {
  readonly job: Job;
  readonly report: Report | undefined;
}

/**
 * The client waits for an answer for at most this time, in ms, plus `waitMsMax`. The master may
 * wait up to `waitMsMax` for new lines of a log before it answers.
 */
const answerMsMax = 15_000;
/**
 * `restartMsMax` is the longest time, in ms, for which a request is repeated while the master
 * restarts. `againMs` is the pause, in ms, between two attempts.
 */
export const restartMsMax = 60_000;
const againMs = 500;
/**
 * Pause, in ms, between two requests for a log that grows. The next answer contains all lines that
 * were added during the pause.
 */
const followMs = 100;
/**
 * Pause, in ms, before the next request if an answer had no new lines. Usually the master answers
 * only when the log has new lines. But if too many requests wait for lines already, it sends an
 * empty answer at once. The pause then limits the rate of requests.
 */
const idleMs = 1000;

/**
 * Client of the API of a master that takes jobs. Its methods throw PodErrors, including the errors
 * that the master reports.
 */
export class JobClient {
  readonly #origin: string;
  readonly #token: Token;
  readonly #folder: string | undefined;

  /**
   * `origin` is the origin of the API's URL, such as `http://127.0.0.1:7080`. `folder` is the
   * folder of the pod; undefined if no folder of `pod up` is known.
   */
  constructor(origin: string, token: Token, folder?: string) {
    this.#origin = origin;
    this.#token = token;
    this.#folder = folder;
  }

  async submit(words: readonly string[]): Promise<Job> {
    return this.#ask('POST', '/jobs', jobSchema, { words });
  }

  /**
   * Returns all jobs, oldest first, and separately the damaged jobs, which the master cannot read.
   */
  async list(): Promise<LoadedJobs> {
    const newestFirst: Job[] = [];
    let damaged: readonly DamagedJob[] = [];
    for (let hasMore = true; hasMore; ) {
      const last = newestFirst.at(-1);
      const path = last === undefined ? '/jobs' : `/jobs?before=${last.id}`;
      const page = await this.#ask('GET', path, pageSchema);
      newestFirst.push(...page.jobs);
      damaged = page.damaged;
      hasMore = page.more && page.jobs.length > 0;
    }
    return { jobs: newestFirst.reverse(), damaged };
  }

  async find(id: string): Promise<FoundJob> {
    const found = await this.#ask('GET', pathOf(id), z.unknown());
    const job = checked(found, jobSchema);
    return { job, report: job.state === 'done' ? checked(found, summarySchema).report : undefined };
  }

  cancel(id: string): Promise<Job> {
    return this.#ask('DELETE', pathOf(id), jobSchema);
  }

  /**
   * Yields the log of a job in pieces of whole lines. Without `follow`, yields the lines that the
   * log has now. With `follow`, also yields new lines until the job has ended, and repeats failed
   * requests while the master restarts.
   */
  async *log(id: string, follow: boolean): AsyncGenerator<string> {
    for (let offset = 0; ; ) {
      const { text, next, hasEnded } = await (follow
        ? this.#patiently(() => this.#piece(id, offset, waitMsMax))
        : this.#piece(id, offset, 0));
      if (text === '' && (hasEnded || !follow)) return;
      if (text !== '') {
        if (next <= offset) throw unknown(`next: expected more than ${offset}, found ${next}`);
        yield text;
      }
      offset = next;
      if (follow && !hasEnded) await sleep(text === '' ? idleMs : followMs);
    }
  }

  #piece(id: string, offset: number, waitMs: number): Promise<z.infer<typeof pieceSchema>> {
    return this.#ask('GET', `${pathOf(id)}/log?offset=${offset}&wait=${waitMs}`, pieceSchema);
  }

  async #patiently<T>(ask: () => Promise<T>): Promise<T> {
    const sinceMs = performance.now();
    for (;;) {
      try {
        return await ask();
      } catch (error) {
        const isAway = error instanceof PodError && error.code === 'worker-silent';
        if (!isAway || performance.now() - sinceMs > restartMsMax) throw error;
      }
      await sleep(againMs);
    }
  }

  async #ask<T>(method: string, path: string, schema: z.ZodType<T>, value?: unknown): Promise<T> {
    const body = Buffer.from(value === undefined ? '' : JSON.stringify(value));
    let { status, text } = await this.#send(method, path, body);
    const challenge = status === 401 ? challengeIn(text) : undefined;
    // If the clock of this machine or of the master is wrong, the master answers with the status
    // 401 and a challenge. The request is then repeated with a signature over the challenge, which
    // needs no clock.
    if (challenge !== undefined) {
      ({ status, text } = await this.#send(method, path, body, challenge));
    }
    if (status >= 300) throw this.#refused(status, text);
    return checked(parseJson(text), schema);
  }

  async #send(method: string, path: string, body: Uint8Array, nonce?: string): Promise<HttpAnswer> {
    const timeMs = nonce === undefined ? Date.now() : noTime;
    const authorization = sign(this.#token, { method, path, body }, timeMs, nonce);
    try {
      return await request(this.#origin, {
        ...{ method, path, headers: { authorization } },
        ...(body.length > 0 && { body }),
        answerMsMax: answerMsMax + waitMsMax,
      });
    } catch (error) {
      throw (this.#folder !== undefined && endOfPod(this.#folder)) || error;
    }
  }

  /**
   * Returns the error for a request that the master refused, with the code and the message that the
   * master sent. If this version does not know the code, the code is `bad-config`.
   */
  #refused(status: number, text: string): Error {
    const { success, data } = refusalSchema.safeParse(parseJson(text));
    if (!success) {
      const found = `status ${status}`;
      if (status >= 500) return new Error(`${this.#origin} answered with ${found}: ${text.trim()}`);
      const expected = 'a master that takes jobs (pod up --serve)';
      return new PodError('bad-config', `${this.#origin}: expected ${expected}, found ${found}`);
    }
    const { code, message } = data;
    if (code === 'unauthorized') {
      const hint = 'name the file of the token by --token-file or POD_TOKEN_FILE';
      return new PodError(code, `${this.#origin} refused the request: ${message}; ${hint}`);
    }
    if (isErrorCode(code)) return new PodError(code, message);
    return new PodError('bad-config', `${this.#origin} refused the request: ${message}`);
  }
}

export function isErrorCode(code: string): code is ErrorCode {
  return Object.hasOwn(errorCodes, code);
}

const pageSchema = z.object({
  jobs: z.array(jobSchema),
  more: z.boolean(),
  // A master of an older version sends no list of damaged jobs, because it refuses to start if a
  // job is damaged.
  damaged: z.array(damagedSchema).default([]),
});
const pieceSchema = z.object({ text: z.string(), next: z.int().min(0), hasEnded: z.boolean() });
const refusalSchema = z.object({ code: z.string(), message: z.string() });
const challengeSchema = z.object({ challenge: z.string().regex(/^[0-9a-f]{32}$/) });

function challengeIn(text: string): string | undefined {
  return challengeSchema.safeParse(parseJson(text)).data?.challenge;
}

function pathOf(id: string): string {
  return `/jobs/${encodeURIComponent(id)}`;
}

function checked<T>(value: unknown, schema: z.ZodType<T>): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  throw unknown(mismatch(result.error));
}

function unknown(found: string): PodError {
  return new PodError(
    'bad-config',
    `the master sent an answer that this version of pod does not understand: ${found}`,
  );
}
