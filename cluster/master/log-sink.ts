import type { Logger } from 'pino';
import { logEvent } from '../../src/observe/log.ts';
import type { Sink } from '../../src/run/stream.ts';

/**
 * Returns the sink that logs the events of a run. The sink does not log the event `failed`, because
 * the master, or the server of jobs, logs the error itself and with more detail.
 */
export function logSink(logger: Logger): Sink {
  return {
    take(event) {
      if (event.kind !== 'failed') logEvent(logger, event);
    },
  };
}
