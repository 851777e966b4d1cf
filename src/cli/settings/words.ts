import { Command, CommanderError } from 'commander';
import { PodError } from '../../numerics/error.ts';
import { addSettingFlags } from './command.ts';
import type { Settings } from './merge.ts';
import { flagOf, missingValue, type SettingKey, schema } from './schema.ts';
import { type RawOptions, type Source, shortened, sourceOfFlags } from './source.ts';

/** Words of a command line, taken apart. */
export interface ParsedWords {
  readonly source: Source;
  /** The file of `--config`, if there was one. */
  readonly config: string | undefined;
}

/** Words that are no flags of `pod train`. */
export class UnknownWords extends PodError {
  constructor(message: string, cause: CommanderError) {
    super('bad-flag', message, cause);
  }
}

/** How messages speak of words. */
export interface Wording {
  /** Where they stand: `POD_ARGS`, `flags of a job`. */
  readonly where: string;
  /** How messages name the setting of a flag. */
  readonly origin: (key: SettingKey) => string;
}

/**
 * Takes words apart as `pod train` does, whether or not the mode takes their settings.
 *
 * @throws UnknownWords for what is no flag of `pod train`, PodError `bad-flag` for one given twice.
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
      error.exitCode === 0 ? 'a question for help' : error.message.replace(/^error: /, '');
    throw new UnknownWords(`${where}: ${shortened(found, 200)}`, error);
  }
  const { config, ...settings } = flags;
  return {
    source: sourceOfFlags(settings, origin),
    config: config === undefined ? undefined : String(config),
  };
}

/** Words that give these settings when they are parsed again; those with their own value are left out. */
export function wordsOf(settings: Settings): string[] {
  return [...settings.given].flatMap(([key, { value }]) => {
    if (typeof value !== 'boolean') return [flagOf(key), String(value)];
    return value === missingValue(key, settings.mode) ? [] : [schema[key].flag];
  });
}

/**
 * One line from which `splitWords` (cluster/image/words.ts) gives these words again, whatever is in
 * them: there, quotes end nothing but themselves, and what stands side by side is one word.
 */
export function joinWords(words: readonly string[]): string {
  return words.map(quoted).join(' ');
}

function quoted(word: string): string {
  if (/^[\w./:=,@%+-]+$/.test(word)) return word;
  if (!word.includes("'")) return `'${word}'`;
  return word.replace(/'+|[^']+/g, (part) => (part.startsWith("'") ? `"${part}"` : `'${part}'`));
}
