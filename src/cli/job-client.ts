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
import { mismatch } from '../files/mismatch.ts';
import { type ErrorCode, errorCodes, PodError } from '../numerics/error.ts';
import { type HttpAnswer, request } from './http.ts';
import { findMaster, folderOf, type MasterFlags } from './place.ts';
import { endOfPod } from './pod-state.ts';

/** Flags that say where a master is and which token the master accepts. */
export interface PlaceFlags extends MasterFlags {
  readonly tokenFile?: string;
}

/**
 * Finds the master as {@link findMaster} does, and the file of its token. The token file is the one
 * that `--token-file` names, otherwise `POD_TOKEN_FILE`, otherwise the file in the folder of `pod
 * up`, otherwise the file in a container of a pod.
 *
 * @throws PodError `bad-flag` or `bad-config` for an invalid place or token, `io` if there is no
 * token.
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
 * Longest time, in ms, that an answer may take in addition to the time that the request asked the
 * master to wait.
 */
const answerMsMax = 15_000;
/**
 * Longest time, in ms, that a request is repeated while the master is being restarted, and the
 * pause between two attempts.
 */
export const restartMsMax = 60_000;
const againMs = 500;
/**
 * Pause, in ms, between two requests for a growing log. Lines that arrive in the pause come
 * together in the next answer.
 */
const followMs = 100;
/**
 * Pause, in ms, after an answer without lines. The master sends an empty answer only after the wait
 * that the request asked for.
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
   * `origin` is such as `http://127.0.0.1:7080`; `folder` is the folder of the pod if `pod up`
   * started the pod.
   */
  constructor(origin: string, token: Token, folder?: string) {
    this.#origin = origin;
    this.#token = token;
    this.#folder = folder;
  }

  async submit(words: readonly string[]): Promise<Job> {
    return this.#ask('POST', '/jobs', jobSchema, { words });
  }

  /** Returns all jobs, oldest first, and the jobs that the master cannot read. */
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
   * Yields the log of a job in pieces of whole lines. Without `follow`, ends after the present
   * lines. With `follow`, ends when the job has ended, and waits for a master that is being
   * restarted.
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
    // The status 401 with a challenge means that the clock of this machine or of the master is
    // wrong. A signature over the challenge needs no clock.
    if (challenge !== undefined) {
      ({ status, text } = await this.#send(method, path, body, challenge));
    }
    if (status >= 300) throw this.#refused(status, text);
    return checked(parsed(text), schema);
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

  /** Converts a refusal of the master to the error that the master had. */
  #refused(status: number, text: string): Error {
    const { success, data } = refusalSchema.safeParse(parsed(text));
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
  // Masters of older versions send no list: they refuse to start with a damaged job.
  damaged: z.array(damagedSchema).default([]),
});
const pieceSchema = z.object({ text: z.string(), next: z.int().min(0), hasEnded: z.boolean() });
const refusalSchema = z.object({ code: z.string(), message: z.string() });
const challengeSchema = z.object({ challenge: z.string().regex(/^[0-9a-f]{32}$/) });

function challengeIn(text: string): string | undefined {
  return challengeSchema.safeParse(parsed(text)).data?.challenge;
}

function pathOf(id: string): string {
  return `/jobs/${encodeURIComponent(id)}`;
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function checked<T>(value: unknown, schema: z.ZodType<T>): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  throw unknown(mismatch(result.error));
}

function unknown(found: string): PodError {
  return new PodError('bad-config', `the master sent an answer that this version of pod does not understand: ${found}`);
}
