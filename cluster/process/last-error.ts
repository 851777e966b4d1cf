import { closeSync } from 'node:fs';
import { z } from 'zod';
import { lastLines, openRegularFile } from '../../src/files/read.ts';

/** What the end of a process's log says of its end. */
export interface LastError {
  /** Code of a PodError, if the line has one. */
  readonly code: string | undefined;
  /** One line. */
  readonly message: string;
}

/** At most this much of the end of a log is looked at, in bytes. */
const tailBytes = 16_384;
/** The most characters that a message takes over from a log. */
const wordsMax = 300;

const lineSchema = z.object({
  level: z.number().min(50),
  code: z.string().optional(),
  msg: z.string(),
});

/**
 * Why a process has ended, as its log tells from byte `from` on: its last error, or else a line that
 * is none of its own, such as one of an engine that ran out of memory. Undefined if it tells nothing.
 */
export function lastErrorIn(path: string, from: number): LastError | undefined {
  const lines = linesOf(path, from);
  const error = lastErrorAmong(lines);
  if (error !== undefined) return error;
  const words = foreign(lines);
  return words === undefined ? undefined : { code: undefined, message: words.slice(0, wordsMax) };
}

/** The last error that some lines of a log tell. */
export function lastErrorAmong(lines: readonly string[]): LastError | undefined {
  const errors = lines.flatMap((line) => lineSchema.safeParse(jsonOf(line)).data ?? []);
  const error = errors.at(-1);
  return error && { code: error.code, message: error.msg };
}

/** Engines and loaders say in the first of many lines what went wrong. */
function foreign(lines: readonly string[]): string | undefined {
  // A line of the process itself may have been cut off.
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
