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

/** The environment of a master, as far as it has settings. */
export interface MasterEnv {
  /** Flags of `pod train`. */
  readonly POD_ARGS?: string | undefined;
  /** Cloud TPUs of the pod. */
  readonly TPUS?: string | undefined;
}

/**
 * What a master trains: the flags in `POD_ARGS`, and the file that they name, on a pod of `TPUS` Cloud
 * TPUs. Paths are those of this machine. `TPUS` and the sizes in `POD_ARGS` must agree.
 *
 * @throws PodError naming what is wrong.
 */
export function readMaster(env: MasterEnv): TrainOptions {
  const settings = podArgs(env, 'master');
  return optionsOf(withAbsolutePaths(settings, process.cwd()), sizeOf(env, settings));
}

/**
 * The slice of a master that takes jobs, by the same rules. `POD_ARGS` gives nothing but its size.
 *
 * @throws PodError naming what is wrong.
 */
export function readServing(env: MasterEnv): Topology {
  return sizeOf(env, podArgs(env, 'serve'));
}

/**
 * What a job of a pod trains. It takes the whole slice of the pod unless it asks for less, and keeps
 * its checkpoints in its folder.
 *
 * @throws PodError naming what is wrong.
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
 * Checks the words of a job that is submitted to a pod, and gives those to keep: the settings of a file
 * take the place of `--config`, and the size of the slice is among them. So they say what will run,
 * whatever becomes of the file and of the pod until then.
 *
 * @throws PodError naming what is wrong.
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

/** The size of the pod, which both `TPUS` and `POD_ARGS` may give. */
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

/** Nobody here knows the folder in which the client stands. */
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
  const expected = "something to read on the master's machine";
  const found = `nothing at ${missing.path}`;
  throw new PodError('bad-data', `${missing.origin}: expected ${expected}, found ${found}`);
}
