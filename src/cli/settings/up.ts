import { optionsOf, settingsOf, type TrainOptions } from '../options.ts';
import { withAbsolutePaths } from './paths.ts';
import { askedSize, defaultTopology, tpusOf } from './size.ts';
import type { RawOptions } from './source.ts';
import { joinWords, wordsOf } from './words.ts';

/** What `pod up` asks of the master that it starts. */
export interface UpRequest {
  /** Cloud TPUs of the pod. */
  readonly tpus: number;
  /** `POD_ARGS` of the master: the flags and the settings of the file, paths made absolute. */
  readonly args: string;
  /** The run that the master is to train; undefined if it serves. */
  readonly run: TrainOptions | undefined;
}

/**
 * Reads the flags of `pod up` as they are meant where it is called, in `folder`. A pod that serves
 * takes its size alone: all else is a matter of its jobs.
 *
 * @throws PodError naming what is wrong, as the master would.
 */
export function upRequest(flags: RawOptions, serve: boolean, folder: string): UpRequest {
  const settings = settingsOf(flags, serve ? 'serve' : 'up');
  const run = serve ? undefined : optionsOf(settings);
  const topology = askedSize(settings)?.topology ?? defaultTopology;
  const resolved = withAbsolutePaths(settings, folder);
  return { tpus: tpusOf(topology), args: joinWords(wordsOf(resolved)), run };
}
