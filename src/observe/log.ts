import type { Logger } from 'pino';
import type { TrainEvent } from '../experiment/event.ts';

/**
 * Writes an event as one structured log line. The line also gets the fields bound to `logger`, such
 * as `job`.
 */
export function logEvent(logger: Logger, event: TrainEvent): void {
  const { kind, ...fields } = event;
  switch (event.kind) {
    case 'step':
      logger.info(fields, 'step');
      return;
    case 'checkpoint-failed':
    case 'checkpoint-refused':
      logger.warn(fields, kind);
      return;
    case 'note':
      logger.warn(event.note, event.note.event);
      return;
    case 'finished':
      logger.info(event.report, 'summary');
      return;
    default:
      logger.info(fields, kind);
  }
}
