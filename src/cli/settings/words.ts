import { Command, CommanderError } from 'commander';
import { PodError } from '../../numerics/error.ts';
import { addSettingFlags } from './command.ts';
import type { Settings } from './merge.ts';
import { flagOf, missingValue, type SettingKey, schema } from './schema.ts';
import { type RawOptions, type Source, shortened, sourceOfFlags } from './source.ts';

/**
 * Result of parsing the words of a command line: the settings, and the name of the `--config` file.
 */
export interface ParsedWords {
  readonly source: Source;
  /** The file of `--config`; undefined if it is not given. */
  readonly config: string | undefined;
}

/** Error for words that are not flags of `pod train`. */
export class UnknownWords extends PodError {
  constructor(message: string, cause: CommanderError) {
    super('bad-flag', message, cause);
  }
}

/** Phrases for messages about wrong words. */
export interface Wording {
  /** Name of the place where the words were given: `POD_ARGS` or `flags of a job`. */
  readonly where: string;
  /** Returns the name of a setting for messages. */
  readonly origin: (key: SettingKey) => string;
}

/**
 * Parses words as `pod train` parses its flags. Does not check the values, nor whether a mode takes
 * the settings.
 *
 * @throws UnknownWords for a word that is not a flag of `pod train`, PodError `bad-flag` for a flag
 * that is given twice.
 */
export function parseWords(words: readonly string[], { where, origin }: Wording): ParsedWords {
  const command = new Command('train')
    .exitOverride()
    .configureOutput({ writeOut: () => {}, writeErr: () => {}, outputError: () => {} });
  addSettingFlags(command, 'train', origin);
  let flags: RawOptions = {};
  command.action((given: RawOptions) => {
    flags = given;
  });
  try {
    command.parse([...words], { from: 'user' });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    const found =
      error.exitCode === 0 ? 'a request for help' : error.message.replace(/^error: /, '');
    throw new UnknownWords(`${where}: ${shortened(found, 200)}`, error);
  }
  const { config, ...settings } = flags;
  return {
    source: sourceOfFlags(settings, origin),
    config: config === undefined ? undefined : String(config),
  };
}

/**
 * Returns words that {@link parseWords} parses to the given settings. Leaves out a boolean that
 * equals its default.
 */
export function wordsOf(settings: Settings): string[] {
  return [...settings.given].flatMap(([key, { value }]) => {
    if (typeof value !== 'boolean') return [flagOf(key), String(value)];
    return value === missingValue(key, settings.mode) ? [] : [schema[key].flag];
  });
}

/**
 * Joins words, which may contain any characters, to one line. `splitWords` (cluster/image/words.ts)
 * splits the line into the same words. A word with a single quote becomes several quoted parts
 * without spaces between them: `it's` becomes `'it'"'"'s'`.
 */
export function joinWords(words: readonly string[]): string {
  return words.map(quoted).join(' ');
}

function quoted(word: string): string {
  if (/^[\w./:=,@%+-]+$/.test(word)) return word;
  if (!word.includes("'")) return `'${word}'`;
  return word.replace(/'+|[^']+/g, (part) => (part.startsWith("'") ? `"${part}"` : `'${part}'`));
}
