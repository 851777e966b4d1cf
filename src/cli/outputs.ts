import { readdirSync, type Stats, statSync } from 'node:fs';
import { join } from 'node:path';
import { isOfCheckpoints } from '../experiment/checkpoint/own-files.ts';
import { describeKind } from '../files/read.ts';
import {
  descriptorOf,
  isSameFile,
  isSameStats,
  realPath,
  type Target,
  targetOf,
} from '../files/target.ts';
import { PodError } from '../numerics/error.ts';
import { quoteName } from '../numerics/quote.ts';
import { runFiles } from '../run/files.ts';
import { tildeAdvice } from './settings/checks.ts';
import type { Settings } from './settings/merge.ts';
import { pathsOf } from './settings/paths.ts';

/** A file that a run writes. */
export interface OutputFile {
  /** Name of the setting or flag that names the file, as messages write it: `--log`, for example. */
  readonly origin: string;
  readonly path: string;
}

/** An output file and what its path refers to. */
interface Output extends OutputFile {
  readonly target: Target;
}

/** A file that a run reads, other than its data and checkpoints. */
export interface InputFile {
  /** Name of the setting that names the file, as messages write it: `--config`, for example. */
  readonly origin: string;
  readonly path: string;
}

/**
 * Checks the outputs of a run. Refuses an output that cannot be written, two outputs that are the
 * same file, and an output that would replace one of `inputs`, a file of the data set or a
 * checkpoint. `more` are outputs that no setting names. Changes nothing on disk.
 *
 * @throws PodError `bad-flag` that names the first refused output.
 */
export function checkOutputs(
  settings: Settings,
  inputs: readonly InputFile[],
  more: readonly OutputFile[] = [],
): void {
  const named = (['report', 'log'] as const).flatMap((key): OutputFile[] => {
    const path = settings.get(key);
    return path === undefined ? [] : [{ origin: settings.origin(key), path }];
  });
  const files = [...named, ...more].map((it): Output => {
    return { ...it, target: usable(it.origin, it.path) };
  });
  for (const file of files) refuseRunFolder(file, settings);
  const outputs = [...files, ...recordOf(settings)];
  for (const output of outputs) {
    refuseStandardStreams(output);
    for (const { origin, path } of inputs) refuseInput(output, origin, path);
    refuseData(output, settings);
    for (const key of ['checkpoint', 'startFrom'] as const) refuseCheckpoint(output, settings, key);
  }
  for (const [index, output] of outputs.entries()) {
    const other = outputs.slice(0, index).find((it) => isSameFile(it.target, output.target));
    if (other === undefined) continue;
    throw wrong(output, `a file other than that of ${other.origin}`, 'the same file');
  }
}

/**
 * Returns the files that the run writes to the folder of `--run`. Returns none if the folder does
 * not exist yet: files in a new folder cannot be the same as another input or output.
 */
function recordOf(settings: Settings): Output[] {
  const folder = settings.get('run');
  if (folder === undefined) return [];
  const origin = settings.origin('run');
  const stats = statOf(folder);
  if (stats !== undefined && !stats.isDirectory()) {
    throw wrong({ origin, path: folder }, 'a folder', describeKind(stats));
  }
  for (const key of ['checkpoint', 'startFrom'] as const) {
    const given = settings.get(key);
    if (given === undefined || !isOfCheckpoints(given, realPath(folder), undefined)) continue;
    const expected = `a folder that is not part of the checkpoints of ${settings.origin(key)}`;
    throw wrong({ origin, path: folder }, expected);
  }
  if (stats === undefined) return [];
  return Object.values(runFiles).map((name) => {
    const path = join(folder, name);
    return { origin, path, target: usable(origin, path) };
  });
}

/** Refuses a file whose path is that of the folder of `--run`, or of a folder above it. */
function refuseRunFolder(output: Output, settings: Settings): void {
  const run = settings.get('run');
  if (run === undefined || output.target.kind !== 'file') return;
  const folder = realPath(run);
  const { path } = output.target;
  if (folder !== path && !folder.startsWith(join(path, '/'))) return;
  throw wrong(output, `a file other than the folder of ${settings.origin('run')}`);
}

/** Returns the destination of an output. Throws PodError `bad-flag` if it cannot be written. */
export function usable(origin: string, path: string): Target {
  const target = targetOf(path);
  if (target.kind !== 'refused') return target;
  const { expected, found } = target;
  const shown = found === path ? quoteName(path) : `${found} (${quoteName(path)})`;
  const advice = path.startsWith('~') ? `; ${tildeAdvice}` : '';
  throw new PodError('bad-flag', `${origin}: expected ${expected}, found ${shown}${advice}`);
}

/**
 * Refuses an output that is the same file as a standard stream, as in `--log run.log >run.log`,
 * because the output and the stream would overwrite each other.
 */
function refuseStandardStreams(output: Output): void {
  const { stats } = output.target;
  if (stats === undefined || descriptorOf(output.path) !== undefined) return;
  for (const [name, place] of [
    ['standard output', '/dev/stdout'],
    ['standard error', '/dev/stderr'],
  ] as const) {
    const stream = targetOf(place);
    if (stream.kind !== 'descriptor' || !isSameStats(stats, stream.stats)) continue;
    throw wrong(output, `a file other than ${name}`, 'the same file');
  }
}

function refuseInput(output: Output, origin: string, path: string): void {
  const { stats } = output.target;
  const input = statOf(path);
  if (stats && input && isSameStats(stats, input))
    throw wrong(output, `a file that ${origin} does not read`);
}

function refuseData(output: Output, settings: Settings): void {
  if (output.target.stats === undefined) return;
  for (const { key, path, origin } of pathsOf(settings)) {
    if (key !== 'data') continue;
    for (const name of namesIn(path)) {
      if (/ubyte/i.test(name)) refuseInput(output, origin, join(path, name));
    }
  }
}

function refuseCheckpoint(
  output: Output,
  settings: Settings,
  key: 'checkpoint' | 'startFrom',
): void {
  const given = settings.get(key);
  if (given === undefined || output.target.kind !== 'file') return;
  if (!isOfCheckpoints(given, output.target.path, output.target.stats)) return;
  throw wrong(output, `a path that is not part of the checkpoints of ${settings.origin(key)}`);
}

function wrong({ origin, path }: OutputFile, expected: string, found?: string): PodError {
  const shown = found === undefined ? quoteName(path) : `${found}, ${quoteName(path)}`;
  const message = `${origin}: expected ${expected}, found ${shown}; name another file`;
  return new PodError('bad-flag', message);
}

function namesIn(folder: string): readonly string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

function statOf(path: string): Stats | undefined {
  try {
    return statSync(path);
  } catch {
    return undefined;
  }
}
