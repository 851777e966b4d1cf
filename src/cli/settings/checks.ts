import { z } from 'zod';
import { datasetForms, parseDataset } from '../../data/open.ts';
import { maxColumns, maxRows, parseTopology } from '../../fabric/torus.ts';
import { PodError } from '../../numerics/error.ts';

/** What a setting accepts: text of a flag, or a value of YAML. Messages begin with "expected". */
export type Check<T> = z.ZodType<T>;

/** A whole number from `min` to `max`. */
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

/** A finite number from `min` to `max`. */
export function real(min: number, max: number): Check<number> {
  return z.preprocess(
    numeric,
    z
      .number({ error: 'expected a number' })
      .min(min, `expected at least ${min}`)
      .max(max, `expected at most ${max}`),
  );
}

/** One of the names. */
export function oneOf<const T extends string>(names: readonly T[]): Check<T> {
  return z.enum(names as [T, ...T[]], { error: `expected one of ${names.join(', ')}` });
}

/** A text that is not empty. */
export const text: Check<string> = z
  .string({ error: 'expected text' })
  .min(1, 'expected some text')
  .refine((it) => !it.includes('\0'), 'expected text without a NUL character');

/** Why `~/ck` is refused where a folder of that name would be made or looked for. */
export const tildeAdvice = 'the shell does not expand ~ here: write $HOME';

/** A path that may be made. A name that really begins with ~ can be given as `./~`. */
export const path: Check<string> = text.refine(
  (it) => !it.startsWith('~'),
  `expected a path that does not begin with ~ (${tildeAdvice})`,
);

/** true or false. */
export const flag: Check<boolean> = z.boolean({ error: 'expected true or false' });

/** A grid of Cloud TPUs, `4x2`. */
export const topology: Check<string> = z
  .string({ error: `expected ${gridForm()}` })
  .refine(isTopology, `expected ${gridForm()}`);

/** A data set in one of the forms of src/data/open.ts. */
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

/** Flags are text: numbers in it are read as numbers; anything else is left to be refused. */
function numeric(value: unknown): unknown {
  if (typeof value === 'number') return withoutSign(value);
  if (typeof value !== 'string' || value.trim() === '') return value;
  const number = Number(value);
  return Number.isFinite(number) ? withoutSign(number) : value;
}

/** -0 is 0: nobody means another rate by it. */
function withoutSign(value: number): number {
  return value === 0 ? 0 : value;
}
