import type { Logger } from 'pino';
import type { Note } from '../experiment/event.ts';
import { type RunFact, withoutNumber } from '../run/event.ts';

/**
 * Levels of a log, from the most detailed one on. A log of one level has the lines of this level
 * and of all levels after it in the list.
 */
export const logLevels = ['debug', 'info', 'warn', 'error'] as const;
/** One of {@link logLevels}. */
export type LogLevel = (typeof logLevels)[number];

/**
 * Writes an event as one structured log line. The line has the fields of the event, and the fields
 * bound to `logger`, such as `job`. It does not have the event's number `n` and version `v`, which
 * only the run folder has. The times of all Cloud TPUs (`tpuPhaseMs` and `tpuLinkWaitMs` of a step)
 * take up to 8 KB a step, so only a log of the level `debug` has them.
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
      logger.warn(noteFields(event.note), event.note.event);
      return;
    case 'pod':
      logger[event.level](event.fields, event.msg);
      return;
    case 'failed':
      logger.error({ code: event.code ?? undefined }, event.message);
      return;
    case 'finished':
      // A log of any level has the summary, because programs read it there.
      logger.child({}, { level: 'info' }).info(event.report, 'summary');
      return;
    case 'step': {
      const { tpuPhaseMs: _, tpuLinkWaitMs: __, ...short } = fields as typeof event;
      logger.info(logger.isLevelEnabled('debug') ? fields : short, kind);
      return;
    }
    default:
      logger.info(fields, kind);
  }
}

/** Returns the fields of a note for the log. Log lines number the steps from 1, notes from 0. */
function noteFields({ step, ...note }: Note): Note {
  return { ...note, step: step === null ? null : step + 1 };
}
