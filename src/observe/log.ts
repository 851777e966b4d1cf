import type { Logger } from 'pino';
import { type RunFact, withoutNumber } from '../run/event.ts';

/**
 * Writes an event as one structured log line. The line has the fields of the event, but not its
 * number `n` and its version `v`, which only the run folder has. The line also has the fields bound
 * to `logger`, such as `job`.
 */
export function logEvent(logger: Logger, event: RunFact): void {
  const { kind, ...fields } = withoutNumber(event);
  switch (event.kind) {
    case 'checkpoint-failed':
    case 'checkpoint-refused':
    case 'straggler':
      logger.warn(fields, kind);
      return;
    case 'note':
      logger.warn(event.note, event.note.event);
      return;
    case 'pod':
      logger[event.level](event.fields, event.msg);
      return;
    case 'failed':
      logger.error({ code: event.code ?? undefined }, event.message);
      return;
    case 'finished':
      logger.info(event.report, 'summary');
      return;
    default:
      logger.info(fields, kind);
  }
}
