import { closeSync } from 'node:fs';
import { join } from 'node:path';
import type { z } from 'zod';
import type { Report } from '../experiment/event.ts';
import { parseJson } from '../files/json.ts';
import { wholeLines } from '../files/lines.ts';
import { mismatch } from '../files/mismatch.ts';
import { type NoFile, openRegularFile, readRegularFile } from '../files/read.ts';
import { isSystemError } from '../files/system-error.ts';
import { PodError } from '../numerics/error.ts';
import { quote } from '../numerics/quote.ts';
import { eventVersion, type RecordedEvent } from './event.ts';
import { runFiles } from './files.ts';
import { type JudgedRun, judgedSchema } from './judged.ts';
import { eventSchema, type RunSettings, reportSchema, settingsSchema } from './schema.ts';

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
 * Reads the record of a run. The run may still go on. An event whose line is not complete yet is
 * left out.
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

/**
 * Reads the settings of the run that a folder records; undefined if the folder records none. Throws
 * the errors of {@link readRun}.
 */
export function readSettings(folder: string): RunSettings | undefined {
  return readJson(join(folder, runFiles.config), settingsSchema);
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
 * Returns how many events are missing between two consecutive lines of the file of events, `before`
 * and `next`. Throws `bad-data` if the event `next` is not newer than the event `before`.
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

function readJson<T>(path: string, schema: z.ZodType<T>): T | undefined {
  const file = readRegularFile(path, jsonBytesMax);
  if (file.kind === 'missing') return undefined;
  if (file.kind === 'refused') throw unreadable(path, file);
  const value = parseJson(file.bytes.toString('utf8'));
  if (value === undefined) throw new PodError('bad-data', `${path}: expected JSON`);
  return checked(path, value, schema);
}

/** Largest accepted size, in bytes, of the settings, of the report and of the verdict. */
const jsonBytesMax = 2 ** 24;

/**
 * Returns `value` if it matches `schema`. Throws `bad-data` otherwise: the message names the
 * version if another version of this program wrote the value, else the first wrong field.
 */
function checked<T>(place: string, value: unknown, schema: z.ZodType<T>): T {
  const found = schema.safeParse(value);
  if (found.success) return found.data;
  const v = typeof value === 'object' && value !== null && 'v' in value ? value.v : eventVersion;
  if (typeof v === 'number' && v !== eventVersion) {
    const what = `expected version ${eventVersion}, found version ${v}`;
    throw new PodError('bad-data', `${place}: ${what}; another version of pod wrote it`);
  }
  throw new PodError('bad-data', `${place}: damaged: ${mismatch(found.error)}`);
}

function unreadable(path: string, file: NoFile): PodError {
  if (file.kind === 'missing') return missing(path);
  const { found, cause } = file;
  if (cause !== undefined) return new PodError('io', `${path}: could not be read: ${found}`, cause);
  return new PodError('bad-data', `${path}: expected a regular file, found ${found}`);
}

function missing(path: string): PodError {
  return new PodError('bad-data', `${path}: expected a record of --run, found nothing there`);
}
