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
   * `POD_ARGS` for the master: the settings of the flags and of the `--config` file, with absolute
   * paths.
   */
  readonly args: string;
  /** The run that the master trains; undefined if the master serves jobs. */
  readonly run: TrainOptions | undefined;
}

/**
 * Reads the flags of `pod up`, as seen from `folder`, where the command was called. A pod that
 * serves jobs takes only its size; all other settings belong to its jobs.
 *
 * @throws PodError that names what is wrong, as the master would.
 */
export function upRequest(flags: RawOptions, serve: boolean, folder: string): UpRequest {
  const settings = settingsOf(flags, serve ? 'serve' : 'up');
  const run = serve ? undefined : optionsOf(settings);
  const topology = askedSize(settings)?.topology ?? defaultTopology;
  const resolved = withAbsolutePaths(settings, folder);
  return { tpus: tpusOf(topology), args: joinWords(wordsOf(resolved)), run };
}
