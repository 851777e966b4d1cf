import type { Logger } from 'pino';
import type { RunFact } from '../run/event.ts';

/**
 * Writes an event as one structured log line, with its `generation` if it has one. The line also
 * gets the fields bound to `logger`, such as `job`. The number and the version of the event are
 * left out: they are in the run folder.
 */
export function logEvent(logger: Logger, event: RunFact): void {
  const { v: _, n: __, kind, ...fields } = event as RunFact & { v?: number; n?: number };
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
