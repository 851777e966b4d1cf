import { PodError } from '../../src/numerics/error.ts';
import { quote } from '../../src/numerics/quote.ts';

/** Environment variables: values by name. */
export type Environment = Readonly<Record<string, string | undefined>>;

/**
 * Default limit on the length of a text in an environment variable, in characters. Long enough for
 * the path of a file.
 */
const textLengthMax = 4096;

/**
 * Returns the whole number in an environment variable, or undefined if the variable is not set.
 * White space around the number is ignored.
 *
 * @throws PodError `bad-config`, which names the variable, if the value is empty, not a whole
 * number, or out of range.
 */
export function readInteger(
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

/**
 * Returns the same as {@link readInteger}, except that an empty variable counts as not set.
 * Container engines set some variables to an empty string where a shell would leave them unset.
 */
export function wholeUnlessEmpty(
  env: Environment,
  name: string,
  range: { readonly min: number; readonly max: number },
): number | undefined {
  return env[name] === '' ? undefined : readInteger(env, name, range);
}

/**
 * Returns the value of an environment variable whose only valid values are `words`. Returns
 * undefined if the variable is not set.
 *
 * @throws PodError `bad-config`, which names the variable, if the value is any other word.
 */
export function readWord<const T extends string>(
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
 * Returns the text in an environment variable, such as a name or the path of a file. Returns
 * undefined if the variable is not set.
 *
 * @throws PodError `bad-config`, which names the variable, if the text is blank, is too long, or
 *   contains control characters.
 */
export function readText(
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
