import { closeSync } from 'node:fs';
import { z } from 'zod';
import { lastLines, openRegularFile } from '../../src/files/read.ts';

/** The error that ended a process, as read from the end of its log. */
export interface LastError {
  /** Code of the PodError; undefined if the log line has no code. */
  readonly code: string | undefined;
  /** Message of the error, on one line. */
  readonly message: string;
}

/** Longest part of a log that is searched for an error: the last so many bytes. */
const tailBytes = 16_384;
/** Longest message, in characters, made from a log line that is not JSON. */
const wordsMax = 300;

const lineSchema = z.object({
  level: z.number().min(50),
  code: z.string().optional(),
  msg: z.string(),
});

/**
 * Returns the reason why a process has ended, from its log after byte `from`: the last error that
 * the process logged. If it logged none, the reason is a line written by something else, for
 * example by V8 when it ran out of memory. Undefined if the log has neither.
 */
export function lastErrorIn(path: string, from: number): LastError | undefined {
  const lines = linesOf(path, from);
  const error = lastErrorAmong(lines);
  if (error !== undefined) return error;
  const words = foreign(lines);
  return words === undefined ? undefined : { code: undefined, message: words.slice(0, wordsMax) };
}

/** Returns the last logged error (pino level 50 or more) among some lines of a log. */
export function lastErrorAmong(lines: readonly string[]): LastError | undefined {
  const errors = lines.flatMap((line) => lineSchema.safeParse(jsonOf(line)).data ?? []);
  const error = errors.at(-1);
  return error && { code: error.code, message: error.msg };
}

/**
 * Returns a line that the process itself did not log (not JSON), with white space collapsed. V8 and
 * the system's loader print many lines and name the cause in the first, so the first line with a
 * word like "fatal" is preferred, then the first line.
 */
function foreign(lines: readonly string[]): string | undefined {
  // A line that begins like JSON but does not parse is a log line of the process that was cut off.
  const others = lines.filter((line) => !line.startsWith('{"') && jsonOf(line) === undefined);
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

function jsonOf(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}
