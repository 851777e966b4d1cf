import { join } from 'node:path';
import type { z } from 'zod';
import { parseJson } from '../files/json.ts';
import { mismatch } from '../files/mismatch.ts';
import { type NoFile, readRegularFile } from '../files/read.ts';
import { PodError } from '../numerics/error.ts';
import { eventVersion } from './event.ts';
import { runFiles } from './files.ts';
import { type RunSettings, settingsSchema } from './schema.ts';

/**
 * Reads the settings of a run from the run folder `folder`. Returns undefined if the folder has no
 * settings.
 *
 * @throws PodError `bad-data` if the file of the settings is damaged or was written by another
 * version of this program. PodError `io` if the file cannot be read.
 */
export function readSettings(folder: string): RunSettings | undefined {
  return readJson(join(folder, runFiles.config), settingsSchema);
}

/**
 * Reads a JSON file of a run folder. Returns undefined if there is no such file. Throws the same
 * errors as {@link readSettings}.
 */
export function readJson<T>(path: string, schema: z.ZodType<T>): T | undefined {
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
 * Returns `value` if it matches `schema`. Otherwise throws `bad-data`. If another version of this
 * program wrote the value, the message names that version. If not, the message names the first
 * wrong field.
 */
export function checked<T>(place: string, value: unknown, schema: z.ZodType<T>): T {
  const found = schema.safeParse(value);
  if (found.success) return found.data;
  const v = typeof value === 'object' && value !== null && 'v' in value ? value.v : eventVersion;
  if (typeof v === 'number' && v !== eventVersion) {
    const what = `expected version ${eventVersion}, found version ${v}`;
    throw new PodError('bad-data', `${place}: ${what}; another version of pod wrote it`);
  }
  throw new PodError('bad-data', `${place}: damaged: ${mismatch(found.error)}`);
}

/** Returns the error for a file of a run folder that could not be opened. */
export function unreadable(path: string, file: NoFile): PodError {
  if (file.kind === 'missing') return missing(path);
  const { found, cause } = file;
  if (cause !== undefined) return new PodError('io', `${path}: could not be read: ${found}`, cause);
  return new PodError('bad-data', `${path}: expected a regular file, found ${found}`);
}

/** Returns the error for a file that a run folder must have, but does not have. */
export function missing(path: string): PodError {
  return new PodError('bad-data', `${path}: expected a record of --run, found nothing there`);
}
