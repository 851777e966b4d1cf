import type { Logger } from 'pino';
import { logEvent } from '../../src/observe/log.ts';
import type { Sink } from '../../src/run/stream.ts';

/**
 * Returns the sink that logs the events of a run, except the event `failed`. The error that ended a
 * run is logged elsewhere, with more detail: by the master or by its server of jobs.
 */
export function logSink(logger: Logger): Sink {
  return {
    take(event) {
      if (event.kind !== 'failed') logEvent(logger, event);
    },
  };
}
