import { closeSync } from 'node:fs';
import { z } from 'zod';
import { parseJson } from '../../src/files/json.ts';
import { lastLines, openRegularFile } from '../../src/files/read.ts';

/** The error that ended a process, as read from the end of its log. */
export interface LastError {
  /** Code of the PodError; undefined if the log line has no code. */
  readonly code: string | undefined;
  /** Message of the error, on one line. */
  readonly message: string;
}

/** How many bytes at the end of a log are searched for an error. */
const tailBytes = 16_384;
/** Longest message, in characters, made from a log line that is not JSON. */
const wordsMax = 300;

const lineSchema = z.object({
  level: z.number().min(50),
  code: z.string().optional(),
  msg: z.string(),
});

/**
 * Returns the error that ended a process, from the part of its log after byte `from`. This is the
 * last error that the process logged. If the process logged no error, returns a line that the
 * process did not log itself, for example the line that V8 writes when memory has run out. Returns
 * undefined if the log has neither.
 */
export function lastErrorIn(path: string, from: number): LastError | undefined {
  const lines = linesOf(path, from);
  const error = lastErrorAmong(lines);
  if (error !== undefined) return error;
  const words = foreign(lines);
  return words === undefined ? undefined : { code: undefined, message: words.slice(0, wordsMax) };
}

/**
 * Returns the last error (pino level 50 or more) in lines of a log; undefined if there is no error.
 */
export function lastErrorAmong(lines: readonly string[]): LastError | undefined {
  const errors = lines.flatMap((line) => lineSchema.safeParse(parseJson(line)).data ?? []);
  const error = errors.at(-1);
  return error && { code: error.code, message: error.msg };
}

/**
 * Returns the line that most likely says why the process ended, with its white space collapsed. Log
 * lines of the process are JSON; all other lines come from V8 or from the loader of the system.
 * Both write the cause first. So the result is the first such line with a word like "fatal". If
 * there is none, the result is the first line that is not JSON.
 */
function foreign(lines: readonly string[]): string | undefined {
  // A line that begins like JSON but does not parse is a log line of the process itself, cut off
  // when the process ended.
  const others = lines.filter((line) => !line.startsWith('{"') && parseJson(line) === undefined);
  const fatal = others.find((line) => /fatal|error|cannot|out of memory/i.test(line));
  return (fatal ?? others[0])?.replace(/[\s#]+/g, ' ').trim();
}

function linesOf(path: string, from: number): string[] {
  const log = openRegularFile(path);
  if (log.kind !== 'opened') return [];
  try {
    return lastLines(log, tailBytes, from);
  } finally {
    closeSync(log.file);
  }
}
