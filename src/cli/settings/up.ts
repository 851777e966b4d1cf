import { optionsOf, settingsOf, type TrainOptions } from '../options.ts';
import { withAbsolutePaths } from './paths.ts';
import { askedSize, defaultTopology, tpusOf } from './size.ts';
import type { RawOptions } from './source.ts';
import { joinWords, wordsOf } from './words.ts';

/** Settings with which `pod up` starts a master. */
export interface UpRequest {
  /** Number of Cloud TPUs of the pod. */
  readonly tpus: number;
  /**
   * Value of `POD_ARGS` for the master: the settings of the flags and of the `--config` file, with
   * absolute paths.
   */
  readonly args: string;
  /** The run that the master trains; undefined if the master serves jobs. */
  readonly run: TrainOptions | undefined;
}

/**
 * Converts the flags of `pod up` to settings of the master. Relative paths are resolved against
 * `folder`, the folder in which the user called the command. If `serve` is true, the pod runs jobs.
 * The flags may then give only the size of the pod, because each job has its own settings.
 *
 * @throws PodError for a wrong setting, with the message that the master would give.
 */
export function upRequest(flags: RawOptions, serve: boolean, folder: string): UpRequest {
  const settings = settingsOf(flags, serve ? 'serve' : 'up');
  const run = serve ? undefined : optionsOf(settings);
  const topology = askedSize(settings)?.topology ?? defaultTopology;
  const resolved = withAbsolutePaths(settings, folder);
  return { tpus: tpusOf(topology), args: joinWords(wordsOf(resolved)), run };
}
