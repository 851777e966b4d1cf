import type { IncomingMessage, ServerResponse } from 'node:http';
import { z } from 'zod';
import { type ErrorCode, PodError } from '../../src/numerics/error.ts';
import { jsonText, quote, quoteName } from '../../src/numerics/quote.ts';
import { type Doorkeeper, Stale } from './auth.ts';
import type { LogPiece } from './job-log.ts';
import { hasEnded, type Job, type JobState, numberOf } from './jobs.ts';
import type { JobServer } from './serve.ts';

/**
 * The parts of a master that answer requests about jobs. `jobs` holds the jobs. `doorkeeper` checks
 * that the sender of each request has the token.
 */
export interface JobApi {
  readonly jobs: JobServer;
  readonly doorkeeper: Doorkeeper;
}

/** Answer to `GET /jobs/ID/log`. */
export interface LogAnswer extends LogPiece {
  readonly state: JobState;
  /** True if the job has ended, so that its log will not grow any more. */
  readonly hasEnded: boolean;
}

/** Maximum number of bytes of a request's body. */
export const bodyBytesMax: number = 2 ** 16;
/**
 * A body with more than {@link bodyBytesMax} bytes is refused, but the server still reads it, up to
 * this number of bytes in all, and drops it. Some clients read the answer only after they have sent
 * the whole body. If the server stopped reading early, such a client would not get the answer
 * `too-large`.
 */
const drainBytesMax = 2 ** 20;
/** Longest time, in ms, that a request may wait for a log to grow. */
export const waitMsMax: number = 10_000;
/** Maximum number of requests that may wait at the same time for logs to grow. */
const waitersMax = 64;
/** Maximum number of jobs in one answer of `GET /jobs`. */
export const pageMax: number = 100;

/** True if a path belongs to the job API: `/jobs`, or below it. */
export function isJobPath(path: string): boolean {
  return /^\/jobs(?:[/?]|$)/.test(path);
}

/**
 * Returns the handler of `POST /jobs`, `GET /jobs`, `GET /jobs/ID`, `GET /jobs/ID/log` and
 * `DELETE /jobs/ID`. Answers are JSON; an error is `{code, message}`.
 */
export function answerJobs({
  jobs,
  doorkeeper,
}: JobApi): (request: IncomingMessage, response: ServerResponse) => Promise<void> {
  const waiters = new Waiters(jobs);
  return async (request, response) => {
    try {
      const asked = await readRequest(request, doorkeeper);
      const { status, value } = await answer(asked, jobs, waiters, response);
      reply(response, status, value);
    } catch (error) {
      if (!(error instanceof PodError)) throw error;
      if (error.code === 'too-large') response.setHeader('connection', 'close');
      if (error.code === 'unauthorized') response.setHeader('www-authenticate', 'Pod');
      const { code, message } = error;
      const challenge = error instanceof Stale && { challenge: error.challenge };
      reply(response, statusOf(error), { code, message, ...challenge });
    }
  };
}

interface Asked {
  readonly method: string;
  readonly url: URL;
  readonly body: Buffer;
}

interface Answer {
  readonly status: number;
  readonly value: unknown;
}

/**
 * Reads a request and checks that its sender has the token. Throws PodError `unauthorized`,
 * `too-large` or `too-many`.
 */
async function readRequest(request: IncomingMessage, doorkeeper: Doorkeeper): Promise<Asked> {
  const { method = '', url: path = '' } = request;
  request.pause();
  try {
    const stamp = doorkeeper.readStamp(request.headers.authorization);
    const body = await readBody(request);
    doorkeeper.admit({ method, path, body }, stamp);
    return { method, url: new URL(path, 'http://master'), body };
  } finally {
    request.resume();
  }
}

async function readBody(request: IncomingMessage): Promise<Buffer> {
  const pieces: Buffer[] = [];
  let bytes = 0;
  for await (const piece of request as AsyncIterable<Buffer>) {
    bytes += piece.length;
    if (bytes <= bodyBytesMax) pieces.push(piece);
    else if (bytes > drainBytesMax) break;
  }
  if (bytes <= bodyBytesMax) return Buffer.concat(pieces);
  throw new PodError('too-large', `body: expected ${bodyBytesMax} bytes at most, found more`);
}

async function answer(
  { method, url, body }: Asked,
  jobs: JobServer,
  waiters: Waiters,
  response: ServerResponse,
): Promise<Answer> {
  const [, , id, part, more] = url.pathname.split('/');
  if (id === undefined) {
    if (method === 'GET')
      return { status: 200, value: { ...page(jobs.list(), url), damaged: jobs.listDamaged() } };
    if (method !== 'POST') return wrongMethod('GET or POST', method);
    const job = jobs.submit(wordsOf(body));
    response.setHeader('location', `/jobs/${job.id}`);
    return { status: 201, value: job };
  }
  if (part === undefined) {
    if (method === 'GET') return { status: 200, value: withReport(jobs, id) };
    if (method !== 'DELETE') return wrongMethod('GET or DELETE', method);
    return { status: 200, value: jobs.cancel(id) };
  }
  if (part !== 'log' || more !== undefined) {
    throw new PodError(
      'no-such-job',
      `expected /jobs/ID or /jobs/ID/log, found ${quote(url.pathname)}`,
    );
  }
  if (method !== 'GET') return wrongMethod('GET', method);
  const offset = wholeIn(url, 'offset', Number.MAX_SAFE_INTEGER) ?? 0;
  const waitMs = wholeIn(url, 'wait', waitMsMax) ?? 0;
  return { status: 200, value: await waiters.readLog(id, offset, waitMs, response) };
}

/**
 * Returns the newest jobs that are older than the job `before`, newest first, and at most `limit`
 * of them. `limit` and `before` are parameters in the URL. If `before` is missing, the page begins
 * with the newest job. `more` is true if still older jobs exist.
 */
function page(all: readonly Job[], url: URL): { readonly jobs: Job[]; readonly more: boolean } {
  const limit = wholeIn(url, 'limit', pageMax) ?? pageMax;
  const before = url.searchParams.get('before');
  const number = before === null ? Number.POSITIVE_INFINITY : numberOf(before);
  if (number === undefined) throw new PodError('bad-flag', 'before: expected a job such as job-1');
  const older = all.filter((job) => (numberOf(job.id) ?? 0) < number);
  return {
    jobs: older.slice(Math.max(0, older.length - limit)).reverse(),
    more: older.length > limit,
  };
}

function withReport(jobs: JobServer, id: string): unknown {
  const report = jobs.report(id);
  return report === undefined ? jobs.find(id) : { ...jobs.find(id), report };
}

const wordsSchema = z.strictObject({ words: z.array(z.string()) });

function wordsOf(body: Buffer): readonly string[] {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf8', { fatal: true }).decode(body));
  } catch (cause) {
    throw new PodError(
      'bad-flag',
      'body: expected JSON such as {"words": ["--steps", "20"]}',
      cause,
    );
  }
  const found = wordsSchema.safeParse(value);
  if (found.success) return found.data.words;
  throw new PodError('bad-flag', `body: ${found.error.issues[0]?.message}`);
}

function wholeIn(url: URL, name: string, max: number): number | undefined {
  const text = url.searchParams.get(name);
  if (text === null) return undefined;
  const value = Number(text);
  if (/^\d{1,16}$/.test(text) && value <= max) return value;
  throw new PodError(
    'bad-flag',
    `${name}: expected a whole number up to ${max}, found ${quote(text)}`,
  );
}

/**
 * Requests that wait until the log of a job has grown. At most {@link waitersMax} requests may wait
 * at the same time. Any further request is answered at once.
 */
class Waiters {
  readonly #jobs: JobServer;
  #count = 0;

  constructor(jobs: JobServer) {
    this.#jobs = jobs;
  }

  async readLog(
    id: string,
    offset: number,
    waitMs: number,
    response: ServerResponse,
  ): Promise<LogAnswer> {
    const piece = this.#jobs.readLog(id, offset);
    const isOver = piece.text !== '' || hasEnded(this.#jobs.find(id));
    if (isOver || waitMs === 0 || this.#count >= waitersMax) return this.#answer(id, piece);
    this.#count++;
    await this.#changed(id, waitMs, response);
    this.#count--;
    return this.#answer(id, this.#jobs.readLog(id, offset));
  }

  /** Resolves when the job has changed, `waitMs` has passed, or the client has disconnected. */
  #changed(id: string, waitMs: number, response: ServerResponse): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        unwatch();
        response.off('close', done);
        resolve();
      };
      const timer = setTimeout(done, waitMs);
      const unwatch = this.#jobs.watch(id, done);
      response.once('close', done);
    });
  }

  #answer(id: string, piece: LogPiece): LogAnswer {
    const job = this.#jobs.find(id);
    return { ...piece, state: job.state, hasEnded: hasEnded(job) };
  }
}

const statuses: Readonly<Partial<Record<ErrorCode, number>>> = {
  unauthorized: 401,
  'no-such-job': 404,
  'job-ended': 409,
  'too-large': 413,
  'too-many': 429,
};

/**
 * Returns the HTTP status for an error. If `statuses` has an entry for the code of the error,
 * returns that entry. Otherwise returns 400 for wrong input (exit codes 2 and 4), and 500 for any
 * other error.
 */
function statusOf({ code, exitCode }: PodError): number {
  return statuses[code] ?? (exitCode === 2 || exitCode === 4 ? 400 : 500);
}

function wrongMethod(expected: string, found: string): Answer {
  const message = `expected ${expected}, found ${quoteName(found)}`;
  return { status: 405, value: { code: 'bad-method', message } };
}

function reply(response: ServerResponse, status: number, value: unknown): void {
  const headers = { 'content-type': 'application/json', 'cache-control': 'no-store' };
  response.writeHead(status, headers).end(`${jsonText(value)}\n`);
}
