import { createServer, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { PodError } from '../../src/numerics/error.ts';
import { answerJobs, isJobPath, type JobApi } from './job-api.ts';

/** State of a master that its HTTP API serves to everybody, read-only and without a token. */
export interface ApiSource {
  isReady(): boolean;
  status(): unknown;
  metrics(): Promise<{ readonly type: string; readonly text: string }>;
}

/** Longest time, in ms, that a request may take to arrive. */
const requestMsMax = 5000;
/**
 * Longest time, in ms, without traffic on a connection. After that the server closes the
 * connection.
 */
const silentMsMax = 20_000;
/**
 * Maximum number of requests on one connection. The answer to the last request contains
 * `connection: close`. If the client then sends another request, the server destroys the
 * connection.
 */
export const requestsMax = 100;

/**
 * Starts the HTTP server of a master. The server answers `/healthz` (the master lives), `/readyz`
 * (steps can run, or the master takes jobs), `/status` (JSON) and `/metrics`. If `jobApi` is given,
 * the server also answers `/jobs`.
 *
 * @throws PodError `io` when the server cannot listen on `host` and `port`.
 */
export function serveApi(
  source: ApiSource,
  host: string,
  port: number,
  jobApi?: JobApi,
): Promise<{ readonly port: number; close(): void }> {
  const jobs = jobApi && answerJobs(jobApi);
  const server = createServer(
    {
      ...{ headersTimeout: requestMsMax, requestTimeout: requestMsMax, maxHeaderSize: 8192 },
      connectionsCheckingInterval: 1000,
    },
    (request, response) => {
      const { url = '' } = request;
      const failed = (error: unknown): void => {
        if (response.headersSent) response.destroy();
        else reply(response, 500, 'text/plain', `${String(error)}\n`);
      };
      if (jobs !== undefined && isJobPath(url)) {
        jobs(request, response).catch(failed);
        return;
      }
      request.resume();
      if (request.method !== 'GET') return reply(response, 405, 'text/plain', 'only GET\n');
      answer(source, url, response).catch(failed);
    },
  );
  server.maxConnections = 64;
  server.maxRequestsPerSocket = requestsMax;
  server.on('dropRequest', (_, socket) => socket.destroy());
  server.setTimeout(silentMsMax);
  return new Promise((resolve, reject) => {
    // Before the server listens, an error means that it cannot listen. Later, an error means that
    // the server could not accept a connection. A later error needs no action: the client connects
    // again, and `reject` does nothing because the promise is already resolved.
    server.on('error', (error) => {
      reject(new PodError('io', `cannot listen on ${host}:${port}: ${error.message}`, error));
    });
    // A master that takes jobs must live on while there is no job, so its HTTP server keeps the
    // process alive. The HTTP server of any other master does not keep the process alive.
    if (jobApi === undefined) server.unref();
    server.listen({ host, port }, () => resolve(opened(server)));
  });
}

function opened(server: Server): { readonly port: number; close(): void } {
  return {
    port: (server.address() as AddressInfo).port,
    close() {
      server.close();
      server.closeAllConnections();
    },
  };
}

async function answer(source: ApiSource, url: string, response: ServerResponse): Promise<void> {
  switch (url.split('?')[0]) {
    case '/healthz':
      return reply(response, 200, 'text/plain', 'alive\n');
    case '/readyz':
      return source.isReady()
        ? reply(response, 200, 'text/plain', 'ready\n')
        : reply(response, 503, 'text/plain', 'not ready\n');
    case '/status':
      return reply(response, 200, 'application/json', `${JSON.stringify(source.status())}\n`);
    case '/metrics': {
      const { type, text } = await source.metrics();
      return reply(response, 200, type, text);
    }
    default:
      return reply(response, 404, 'text/plain', 'nothing there\n');
  }
}

function reply(response: ServerResponse, code: number, type: string, text: string): void {
  response.writeHead(code, { 'content-type': type, 'cache-control': 'no-store' }).end(text);
}
