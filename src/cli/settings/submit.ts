import { sourceOfFile } from './file.ts';
import { mergeSettings, type Settings } from './merge.ts';
import { withAbsolutePaths } from './paths.ts';
import { flagOf, isSettingKey } from './schema.ts';
import { type ParsedWords, parseWords, UnknownWords, wordsOf } from './words.ts';

/** A job as its sender means it. */
export interface JobRequest {
  /** What the master is sent. */
  readonly words: readonly string[];
  /** A refusal of the master, in the words of the sender: it knows the settings, not who gave them. */
  readonly inWordsOfSender: (message: string) => string;
}

/**
 * Reads the words of a job where it is sent from, in `folder`: the file of `--config` is read and sent
 * as settings, and paths are made absolute. Words that this version does not know are sent as they are:
 * the master says what it thinks of them.
 *
 * @throws PodError for a wrong value, or a setting that no job may have.
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
