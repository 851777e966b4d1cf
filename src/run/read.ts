import { closeSync } from 'node:fs';
import { join } from 'node:path';
import type { Report } from '../experiment/event.ts';
import { parseJson } from '../files/json.ts';
import { wholeLines } from '../files/lines.ts';
import { openRegularFile } from '../files/read.ts';
import { isSystemError } from '../files/system-error.ts';
import { PodError } from '../numerics/error.ts';
import { quote } from '../numerics/quote.ts';
import type { RecordedEvent } from './event.ts';
import { runFiles } from './files.ts';
import { type JudgedRun, judgedSchema } from './judged.ts';
import { checked, missing, readJson, readSettings, unreadable } from './read-settings.ts';
import { eventSchema, type RunSettings, reportSchema } from './schema.ts';

/** A run that was recorded to a folder. */
export interface RecordedRun {
  readonly settings: RunSettings;
  /** The events of all masters of the run, in the order in which they were told. */
  readonly events: readonly RecordedEvent[];
  /** Number of events that could not be written, for example because the disk was full. */
  readonly lost: number;
  /** The report; undefined if the run is not done. */
  readonly report: Report | undefined;
  /** Faults and verdict; undefined if no fault plan was run, or if its run has not ended. */
  readonly judged: JudgedRun | undefined;
}

/**
 * Reads the record of a run from its run folder. The run may still go on. If the last line of the
 * events is not complete yet, it is left out.
 *
 * @throws PodError `bad-data` if the folder has no record, or if a file of the record is damaged or
 * was written by another version of this program. The message names the file and, for an event, the
 * line. PodError `io` if a file cannot be read.
 */
export function readRun(folder: string): RecordedRun {
  const settings = readSettings(folder);
  if (settings === undefined) throw missing(join(folder, runFiles.config));
  const { events, lost } = readEvents(join(folder, runFiles.events));
  const report = readJson(join(folder, runFiles.report), reportSchema);
  const judged = readJson(join(folder, runFiles.verdict), judgedSchema);
  return { settings, events, lost, report, judged };
}

function readEvents(path: string): Pick<RecordedRun, 'events' | 'lost'> {
  const opened = openRegularFile(path);
  if (opened.kind !== 'opened') throw unreadable(path, opened);
  try {
    const events: RecordedEvent[] = [];
    let lost = 0;
    for (const text of wholeLines(opened)) {
      const place = `${path}: line ${events.length + 1}`;
      const event = parseEvent(place, text);
      lost += lostBetween(place, events.at(-1), event);
      events.push(event);
    }
    return { events, lost };
  } catch (error) {
    if (!isSystemError(error)) throw error;
    throw new PodError('io', `${path}: could not be read: ${error.message}`, error);
  } finally {
    closeSync(opened.file);
  }
}

/**
 * Returns the number of events that are missing between two consecutive lines of the file of
 * events. `before` and `next` are the events of these lines. Throws `bad-data` if `next` is not
 * newer than `before`.
 */
function lostBetween(
  place: string,
  before: RecordedEvent | undefined,
  next: RecordedEvent,
): number {
  if (before === undefined || before.master < next.master) return next.n;
  if (before.master === next.master && before.n < next.n) return next.n - before.n - 1;
  const found = `event ${next.n} of master ${next.master} after event ${before.n} of master ${before.master}`;
  throw new PodError('bad-data', `${place}: expected the next event, found ${found}`);
}

function parseEvent(place: string, text: string): RecordedEvent {
  const value = parseJson(text);
  if (value === undefined) {
    throw new PodError('bad-data', `${place}: expected an event as JSON, found ${quote(text)}`);
  }
  return checked(place, value, eventSchema);
}
