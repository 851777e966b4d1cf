import { createServer, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { PodError } from '../../src/numerics/error.ts';
import { answerJobs, isJobPath, type JobApi } from './job-api.ts';

/** What anybody may ask of a master over HTTP; nothing can be changed through it. */
export interface ApiSource {
  isReady(): boolean;
  status(): unknown;
  metrics(): Promise<{ readonly type: string; readonly text: string }>;
}

/** How long a request may take to arrive, and a connection may be silent, in ms. */
const requestMsMax = 5000;
const silentMsMax = 20_000;
/** Requests on one connection: it ends after them, and who sends more without looking is hung up on. */
export const requestsMax = 100;

/**
 * Serves `/healthz` (it lives), `/readyz` (steps can run, or jobs are taken), `/status` (JSON), `/metrics`, and
 * `/jobs` of a master that takes jobs.
 *
 * @throws PodError `io` when the address cannot be had.
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
    // One that comes later is of a connection that could not be taken: whoever wanted it tries again.
    server.on('error', (error) => {
      reject(new PodError('io', `cannot listen on ${host}:${port}: ${error.message}`, error));
    });
    // A master that takes jobs lives on while there are none.
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
