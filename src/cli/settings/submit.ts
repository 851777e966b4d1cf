import { sourceOfFile } from './file.ts';
import { mergeSettings, type Settings } from './merge.ts';
import { withAbsolutePaths } from './paths.ts';
import { flagOf, isSettingKey } from './schema.ts';
import { type ParsedWords, parseWords, UnknownWords, wordsOf } from './words.ts';

/** A job in the form in which `pod submit` sends it. */
export interface JobRequest {
  /** Flags of `pod train`, as words of a command line, that are sent to the master. */
  readonly words: readonly string[];
  /**
   * Rewrites the master's message about a refused job. The master names a setting by its key, such
   * as `steps`. The rewritten message says where the sender gave the setting: by which flag, or in
   * which file.
   */
  readonly inWordsOfSender: (message: string) => string;
}

/**
 * Prepares the words of a job for sending. Adds the settings of the `--config` file as flags, and
 * resolves relative paths against `folder`. If this version does not know one of the flags, returns
 * all words unchanged, because the master may have a newer version that knows the flag.
 *
 * @throws PodError for a wrong value, or for a setting that no job may have.
 */
export function jobRequest(words: readonly string[], folder: string): JobRequest {
  const parsed = tryParse(words);
  if (parsed === undefined) return { words, inWordsOfSender: (message) => message };
  const { source, config } = parsed;
  const file = config === undefined ? [] : [sourceOfFile(config)];
  const settings = withAbsolutePaths(mergeSettings('job', [...file, source]), folder);
  return {
    words: wordsOf(settings),
    inWordsOfSender: (message) =>
      message.replace(/\b([A-Za-z]+) of the job\b/g, (all, key: string) =>
        originOf(settings, key, all),
      ),
  };
}

function originOf(settings: Settings, key: string, otherwise: string): string {
  return isSettingKey(key) ? (settings.ask(key)?.origin ?? otherwise) : otherwise;
}

function tryParse(words: readonly string[]): ParsedWords | undefined {
  try {
    return parseWords(words, { where: 'flags of a job', origin: flagOf });
  } catch (error) {
    if (error instanceof UnknownWords) return undefined;
    throw error;
  }
}
