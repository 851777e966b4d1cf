import http from 'node:http';
import https from 'node:https';
import { messageOf, PodError } from '../numerics/error.ts';
import { quoteName } from '../numerics/quote.ts';

/** An HTTP request. */
export interface HttpRequest {
  readonly method?: string;
  /** Path with its query, such as `/jobs?limit=1`. */
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Uint8Array;
  /** Longest time, in ms, from the start of the request to the end of the answer. */
  readonly answerMsMax: number;
  /** Largest body of the answer, in bytes; the default is 8 MiB. */
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
 * A request to this machine (loopback) uses no proxy, even if environment variables name a proxy. A
 * request to another host follows Node's settings for proxies. A redirect is not followed, but is
 * returned as the answer. No socket or timer remains when the returned promise is settled.
 *
 * @throws PodError `worker-silent`, with the reason, if there is no complete answer within
 * `answerMsMax` ms or the connection fails.
 */
export async function request(origin: string, asked: HttpRequest): Promise<HttpAnswer> {
  const { answerMsMax } = asked;
  const url = new URL(origin);
  const deadline = AbortSignal.timeout(answerMsMax);
  try {
    return await exchange(url, asked, deadline);
  } catch (error) {
    const why = deadline.aborted ? `timed out after ${answerMsMax / 1000} s` : reason(error);
    throw new PodError('worker-silent', `no answer from ${quoteName(url.origin)}: ${why}`, error);
  }
}

/**
 * Sends a GET request and returns the JSON value of the answer.
 *
 * @throws PodError `worker-silent` if {@link request} throws it, if the status is not 200, or if
 * the answer is not JSON.
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

/** True if the host of a URL is this machine (loopback). */
export function isLoopback(host: string): boolean {
  return (
    /^(?:[^.]+\.)*localhost\.?$/i.test(host) ||
    /^127(?:\.\d{1,3}){3}$/.test(host) ||
    /^\[(?:::1|::ffff:7f[0-9a-f]{2}:[0-9a-f]{1,4})\]$/i.test(host)
  );
}

const answerBytesMaxDefault = 2 ** 23;
/**
 * Largest total size of an answer's headers, in bytes. This limit applies even if Node's command
 * line sets another limit.
 */
const headerBytesMax = 2 ** 14;

/**
 * HTTP agents for requests to this machine (loopback). They use no proxy. The global agents of Node
 * 24 would use a proxy if `NODE_USE_ENV_PROXY` is set.
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
    if (bytes > bytesMax) throw new Error(`the answer has more than ${bytesMax} bytes`);
    pieces.push(piece);
  }
  return Buffer.concat(pieces).toString('utf8');
}

/**
 * Returns the reason for an error as text. If Node tried several addresses of a host, the error has
 * no message of its own. The text then has the reason of each attempt.
 */
function reason(error: unknown): string {
  if (error instanceof AggregateError && error.message === '') {
    return error.errors.map(reason).join(', ');
  }
  return messageOf(error);
}
