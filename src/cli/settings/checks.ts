import { z } from 'zod';
import { datasetForms, parseDataset } from '../../data/open.ts';
import { maxColumns, maxRows, parseTopology } from '../../fabric/torus.ts';
import { PodError } from '../../numerics/error.ts';

/**
 * Check of a setting's value. The value is the text of a flag, or a value from a YAML file. The
 * error messages begin with "expected".
 */
export type Check<T> = z.ZodType<T>;

/** Accepts a whole number from `min` to `max`. */
export function whole(min: number, max: number = Number.MAX_SAFE_INTEGER): Check<number> {
  return z.preprocess(
    numeric,
    z
      .number({ error: 'expected a whole number' })
      .int('expected a whole number')
      .min(min, `expected at least ${min}`)
      .max(max, `expected at most ${max}`),
  );
}

/** Accepts a finite number from `min` to `max`. */
export function real(min: number, max: number): Check<number> {
  return z.preprocess(
    numeric,
    z
      .number({ error: 'expected a number' })
      .min(min, `expected at least ${min}`)
      .max(max, `expected at most ${max}`),
  );
}

/** Accepts one of the given names. */
export function oneOf<const T extends string>(names: readonly T[]): Check<T> {
  return z.enum(names as [T, ...T[]], { error: `expected one of ${names.join(', ')}` });
}

/** Accepts text that is not empty and has no NUL character. */
export const text: Check<string> = z
  .string({ error: 'expected text' })
  .min(1, 'expected some text')
  .refine((it) => !it.includes('\0'), 'expected text without a NUL character');

/**
 * Advice for a path that begins with `~`, which the shell has not expanded. A program that accepted
 * the path would look for a folder whose name is `~`.
 */
export const tildeAdvice = 'the shell does not expand ~ here: write $HOME';

/**
 * Accepts a path that does not begin with ~. A name that really begins with ~ can be given as
 * `./~`.
 */
export const path: Check<string> = text.refine(
  (it) => !it.startsWith('~'),
  `expected a path that does not begin with ~ (${tildeAdvice})`,
);

/** Accepts true or false. */
export const flag: Check<boolean> = z.boolean({ error: 'expected true or false' });

/** Accepts a grid of Cloud TPUs, such as `4x2`. */
export const topology: Check<string> = z
  .string({ error: `expected ${gridForm()}` })
  .refine(isTopology, `expected ${gridForm()}`);

/** Accepts a data set in one of the forms of src/data/open.ts. */
export const dataset: Check<string> = text.refine(
  (it) => parseDataset(it) !== undefined,
  `expected one of ${datasetForms.join(', ')}`,
);

function gridForm(): string {
  return `columns x rows such as 4x2, 1 to ${maxColumns} columns and 1 to ${maxRows} rows`;
}

function isTopology(value: string): boolean {
  try {
    parseTopology(value);
    return true;
  } catch (error) {
    if (error instanceof PodError) return false;
    throw error;
  }
}

/**
 * Converts text such as `12` to a number, because the value of a flag is text. A value that is no
 * number is returned unchanged, and the check that follows refuses it.
 */
function numeric(value: unknown): unknown {
  if (typeof value === 'number') return withoutSign(value);
  if (typeof value !== 'string' || value.trim() === '') return value;
  const number = Number(value);
  return Number.isFinite(number) ? withoutSign(number) : value;
}

/** Returns 0 for -0, because a user who writes -0 means 0. */
function withoutSign(value: number): number {
  return value === 0 ? 0 : value;
}
