import { PodError } from '../../src/numerics/error.ts';
import { quote } from '../../src/numerics/quote.ts';

/** Variables of the environment. */
export type Environment = Readonly<Record<string, string | undefined>>;

/** How long a text such as the path of a file may be, in characters. */
const textLengthMax = 4096;

/**
 * A whole number from a variable, with white space around it or not; undefined when the variable is
 * not set.
 *
 * @throws PodError `bad-config` naming the variable, also when it is set to nothing.
 */
export function wholeIn(
  env: Environment,
  name: string,
  { min, max }: { readonly min: number; readonly max: number },
): number | undefined {
  const text = env[name];
  if (text === undefined) return undefined;
  const trimmed = text.trim();
  const value = Number(trimmed);
  if (/^\d{1,15}$/.test(trimmed) && value >= min && value <= max) return value;
  throw wrong(name, `a whole number from ${min} to ${max}`, text);
}

/** As {@link wholeIn}, for variables that engines of containers set to nothing instead of not at all. */
export function wholeUnlessEmpty(
  env: Environment,
  name: string,
  range: { readonly min: number; readonly max: number },
): number | undefined {
  return env[name] === '' ? undefined : wholeIn(env, name, range);
}

/**
 * One of some words from a variable; undefined when it is not set.
 *
 * @throws PodError `bad-config` naming the variable.
 */
export function wordIn<const T extends string>(
  env: Environment,
  name: string,
  words: readonly T[],
): T | undefined {
  const text = env[name];
  if (text === undefined) return undefined;
  const word = words.find((it) => it === text.trim());
  if (word !== undefined) return word;
  throw wrong(name, words.join(' or '), text);
}

/**
 * A text such as a name or the path of a file from a variable; undefined when it is not set.
 *
 * @throws PodError `bad-config` naming the variable, when it is blank, too long, or has characters
 * that control a terminal.
 */
export function textIn(
  env: Environment,
  name: string,
  lengthMax: number = textLengthMax,
): string | undefined {
  const text = env[name];
  if (text === undefined) return undefined;
  const isPlain = text.trim() !== '' && !/\p{Cc}/u.test(text);
  if (isPlain && text.length <= lengthMax) return text;
  throw wrong(name, `a line of 1 to ${lengthMax} characters`, text);
}

function wrong(name: string, expected: string, found: string): PodError {
  return new PodError('bad-config', `${name}: expected ${expected}, found ${quote(found)}`);
}
