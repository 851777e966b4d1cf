import http from 'node:http';
import https from 'node:https';
import { PodError } from '../numerics/error.ts';
import { quoteName } from '../numerics/quote.ts';

/** What is asked of a server. */
export interface HttpRequest {
  readonly method?: string;
  /** Path with its query, such as `/jobs?limit=1`. */
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Uint8Array;
  /** Time until the whole answer is there, in ms. */
  readonly answerMsMax: number;
  /** Size of the answer's body, in bytes; 8 MiB unless it is given. */
  readonly answerBytesMax?: number;
}

export interface HttpAnswer {
  readonly status: number;
  /** Body as UTF-8. */
  readonly text: string;
}

/**
 * Sends one request to `origin`, such as `http://127.0.0.1:7080`, and reads the whole answer.
 *
 * This machine itself (loopback) is asked directly, whatever the variables of the environment say of
 * proxies; other hosts are asked as the settings of Node say. Redirects are not followed: their
 * status is the answer. Nothing outlives the returned promise.
 *
 * @throws PodError `worker-silent` when there is no whole answer in time, with the reason.
 */
export async function request(origin: string, asked: HttpRequest): Promise<HttpAnswer> {
  const { answerMsMax } = asked;
  const url = new URL(origin);
  const deadline = AbortSignal.timeout(answerMsMax);
  try {
    return await exchange(url, asked, deadline);
  } catch (error) {
    const why = deadline.aborted ? `none within ${answerMsMax / 1000} s` : reason(error);
    throw new PodError('worker-silent', `no answer from ${quoteName(url.origin)}: ${why}`, error);
  }
}

/**
 * Asks for a JSON value by GET.
 *
 * @throws PodError `worker-silent` as {@link request} does, and when the status is not 200 or the
 * answer is not JSON.
 */
export async function getJson(
  origin: string,
  asked: Omit<HttpRequest, 'method' | 'body'>,
): Promise<unknown> {
  const { status, text } = await request(origin, asked);
  const where = quoteName(`${origin}${asked.path}`);
  if (status !== 200) {
    throw new PodError('worker-silent', `${where}: expected status 200, found ${status}`);
  }
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new PodError('worker-silent', `${where}: expected JSON, found other text`, cause);
  }
}

/** Whether an address, as the host of a URL, is that of this machine itself. */
export function isLoopback(host: string): boolean {
  return (
    /^(?:[^.]+\.)*localhost\.?$/i.test(host) ||
    /^127(?:\.\d{1,3}){3}$/.test(host) ||
    /^\[(?:::1|::ffff:7f[0-9a-f]{2}:[0-9a-f]{1,4})\]$/i.test(host)
  );
}

const answerBytesMaxDefault = 2 ** 23;
/** The most bytes of the headers of an answer, whatever flags of node say. */
const headerBytesMax = 2 ** 14;

/**
 * Agents of loopback. An agent that is made without options knows no proxy; the global agents do, on
 * Node 24, when `NODE_USE_ENV_PROXY` is set.
 */
const directAgents = { http: new http.Agent(), https: new https.Agent() } as const;

function exchange(url: URL, asked: HttpRequest, deadline: AbortSignal): Promise<HttpAnswer> {
  const { method = 'GET', path, headers = {}, body } = asked;
  const answerBytesMax = asked.answerBytesMax ?? answerBytesMaxDefault;
  const [module, direct] =
    url.protocol === 'https:' ? [https, directAgents.https] : [http, directAgents.http];
  return new Promise((resolve, reject) => {
    const sent = module.request({
      ...{ method, path, signal: deadline },
      host: url.hostname.replace(/^\[(.*)\]$/, '$1'),
      port: url.port,
      headers: { ...headers, ...(body && { 'content-length': String(body.length) }) },
      agent: isLoopback(url.hostname) ? direct : undefined,
      maxHeaderSize: headerBytesMax,
    });
    sent.on('error', reject);
    sent.once('response', (response) => {
      readText(response, answerBytesMax)
        .then((text) => resolve({ status: response.statusCode ?? 0, text }))
        .catch(reject)
        .finally(() => sent.destroy());
    });
    sent.end(body);
  });
}

async function readText(response: http.IncomingMessage, bytesMax: number): Promise<string> {
  const pieces: Buffer[] = [];
  let bytes = 0;
  for await (const piece of response as AsyncIterable<Buffer>) {
    bytes += piece.length;
    if (bytes > bytesMax) throw new Error(`an answer of more than ${bytesMax} bytes`);
    pieces.push(piece);
  }
  return Buffer.concat(pieces).toString('utf8');
}

/** Errors of several attempts, one for each address of a name, have their reasons in a list. */
function reason(error: unknown): string {
  if (error instanceof AggregateError && error.message === '') {
    return error.errors.map(reason).join(', ');
  }
  return error instanceof Error ? error.message : String(error);
}
