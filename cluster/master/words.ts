import { existsSync } from 'node:fs';
import { isAbsolute, join } from 'node:path';
import { optionsOf, type TrainOptions } from '../../src/cli/options.ts';
import { sourceOfFile } from '../../src/cli/settings/file.ts';
import { mergeSettings, type Settings } from '../../src/cli/settings/merge.ts';
import { pathsOf, withAbsolutePaths } from '../../src/cli/settings/paths.ts';
import { flagOf, type Mode } from '../../src/cli/settings/schema.ts';
import { askedSize, defaultTopology, sizeWords, tpusOf } from '../../src/cli/settings/size.ts';
import { sourceOfFlags } from '../../src/cli/settings/source.ts';
import { parseWords, type Wording, wordsOf } from '../../src/cli/settings/words.ts';
import type { Topology } from '../../src/fabric/torus.ts';
import { PodError } from '../../src/numerics/error.ts';
import { quote } from '../../src/numerics/quote.ts';
import { splitWords } from '../image/words.ts';

/** The environment variables of a master that hold settings. */
export interface MasterEnv {
  /** Flags of `pod train`, as one line. */
  readonly POD_ARGS?: string | undefined;
  /** Number of Cloud TPUs of the pod. */
  readonly TPUS?: string | undefined;
}

/**
 * Returns the options of the run that a master trains. The settings come from the flags in
 * `POD_ARGS`, from the file that the flag `--config` names, and from `TPUS`. If both `TPUS` and the
 * other settings give the size of the pod, the sizes must be equal. Relative paths start at the
 * master's working directory.
 *
 * @throws PodError naming the wrong setting.
 */
export function readMaster(env: MasterEnv): TrainOptions {
  const settings = podArgs(env, 'master');
  return optionsOf(withAbsolutePaths(settings, process.cwd()), sizeOf(env, settings));
}

/**
 * Returns the size of the slice of a master that takes jobs, as given by `TPUS` or `POD_ARGS`.
 * `POD_ARGS` may contain nothing but the size. If both give the size, the two must agree.
 *
 * @throws PodError naming the wrong setting.
 */
export function readServing(env: MasterEnv): Topology {
  return sizeOf(env, podArgs(env, 'serve'));
}

/**
 * Returns the options of a job from its flags (`words`). The job takes the whole slice of the pod
 * unless its flags ask for less, and keeps its checkpoints in `folder`.
 *
 * @throws PodError naming the wrong setting.
 */
export function readJobWords(
  words: readonly string[],
  folder: string,
  pod: Topology,
): TrainOptions {
  const { settings } = jobSettings(words);
  checkFits(settings, pod);
  const kept = settings
    .with('checkpoint', join(folder, 'checkpoints'), 'the job')
    .with('resume', true, 'the job');
  return optionsOf(kept, pod);
}

/**
 * Checks the flags (`words`) of a submitted job. Returns the flags to store for the job. They
 * contain the settings of the `--config` file instead of the flag `--config`, and they always
 * contain the size of the slice. So the job stays the same if the file or the size of the pod
 * changes later.
 *
 * @throws PodError naming the wrong setting.
 */
export function submittedWords(words: readonly string[], pod: Topology): readonly string[] {
  const { settings, config } = jobSettings(words);
  refuseRelative(config === undefined ? [] : [{ origin: '--config of the job', path: config }]);
  refuseRelative(pathsOf(settings));
  refuseMissing(settings);
  readJobWords(words, '.', pod);
  const expanded = config === undefined ? words : wordsOf(settings);
  return askedSize(settings) === undefined ? [...expanded, ...sizeWords(pod)] : expanded;
}

const inPodArgs: Wording = { where: 'POD_ARGS', origin: (key) => `${flagOf(key)} in POD_ARGS` };
const ofJob: Wording = { where: 'flags of a job', origin: (key) => `${key} of the job` };

function podArgs({ POD_ARGS = '' }: MasterEnv, mode: Mode): Settings {
  return mergeWords(splitWords(POD_ARGS), mode, inPodArgs).settings;
}

function jobSettings(words: readonly string[]): Merged {
  return mergeWords(words, 'job', ofJob);
}

interface Merged {
  readonly settings: Settings;
  readonly config: string | undefined;
}

function mergeWords(words: readonly string[], mode: Mode, wording: Wording): Merged {
  const { source, config } = parseWords(words, wording);
  const file = config === undefined ? [] : [sourceOfFile(config)];
  return { settings: mergeSettings(mode, [...file, source]), config };
}

/**
 * Returns the size of the pod from `TPUS` or `POD_ARGS`; eight Cloud TPUs by default. Throws
 * PodError `bad-flag` if both are given and differ.
 */
function sizeOf({ TPUS = '' }: MasterEnv, settings: Settings): Topology {
  const asked = askedSize(settings);
  if (TPUS.trim() === '') return asked?.topology ?? defaultTopology;
  const env = mergeSettings(settings.mode, [sourceOfFlags({ tpus: TPUS }, () => 'TPUS')]);
  if (asked === undefined) return askedSize(env)?.topology ?? defaultTopology;
  const [tpus, found] = [env.get('tpus'), tpusOf(asked.topology)];
  if (found === tpus) return asked.topology;
  throw new PodError(
    'bad-flag',
    `TPUS and ${asked.origin}: expected one size of the pod, found ${tpus} and ${found} Cloud TPUs; leave one of the two out, or make them the same`,
  );
}

function checkFits(settings: Settings, pod: Topology): void {
  const asked = askedSize(settings);
  if (asked === undefined || tpusOf(asked.topology) <= tpusOf(pod)) return;
  throw new PodError(
    'bad-flag',
    `${asked.origin}: expected at most ${tpusOf(pod)} Cloud TPUs, as the pod has, found ${tpusOf(asked.topology)}`,
  );
}

interface NamedPath {
  readonly origin: string;
  readonly path: string;
}

/**
 * Throws PodError `bad-flag` for a relative path: the master does not know the client's directory.
 */
function refuseRelative(paths: readonly NamedPath[]): void {
  const relative = paths.find(({ path }) => !isAbsolute(path));
  if (relative === undefined) return;
  const expected = "an absolute path on the master's machine";
  const found = quote(relative.path);
  throw new PodError('bad-flag', `${relative.origin}: expected ${expected}, found ${found}`);
}

function refuseMissing(settings: Settings): void {
  const missing = pathsOf(settings).find(({ path }) => !existsSync(path));
  if (missing === undefined) return;
  const expected = "a file or folder on the master's machine";
  const found = `nothing at ${missing.path}`;
  throw new PodError('bad-data', `${missing.origin}: expected ${expected}, found ${found}`);
}
