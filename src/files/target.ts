import {
  accessSync,
  constants,
  existsSync,
  fstatSync,
  lstatSync,
  readlinkSync,
  realpathSync,
  type Stats,
  statSync,
} from 'node:fs';
import { basename, dirname, join, relative, resolve } from 'node:path';
import { describeKind } from './read.ts';
import { isSystemError } from './system-error.ts';

/** Where an output that a path names goes. */
export type Target =
  /** A regular file, there or not: it may be replaced. `path` has no links in it. */
  | { readonly kind: 'file'; readonly path: string; readonly stats: Stats | undefined }
  /** A device or a pipe: it is written to where it is. */
  | { readonly kind: 'stream'; readonly path: string; readonly stats: Stats }
  /** A file that the process was started with, such as `/dev/stdout`. */
  | { readonly kind: 'descriptor'; readonly descriptor: number; readonly stats: Stats };

/** Reason why a path cannot be one of an output, in words that end "expected …, found …". */
export interface NoTarget {
  readonly kind: 'refused';
  readonly expected: string;
  readonly found: string;
}

/** Finds out where an output goes, and whether it can be written, as far as that can be known before. Changes nothing. */
export function targetOf(path: string): Target | NoTarget {
  const descriptor = descriptorOf(path);
  try {
    return descriptor === undefined ? targetAt(path) : openTarget(descriptor);
  } catch (error) {
    if (!isSystemError(error)) throw error;
    return refusal('a file that can be written', withoutPath(error));
  }
}

/** The number of a descriptor that a path stands for: `/dev/stdout`, or `/dev/fd/63` of `>(…)`. */
export function descriptorOf(path: string): number | undefined {
  const named = ['/dev/stdin', '/dev/stdout', '/dev/stderr'].indexOf(path);
  if (named >= 0) return named;
  const number = /^\/(?:dev|proc\/self)\/fd\/(\d{1,9})$/.exec(path)?.[1];
  return number === undefined ? undefined : Number(number);
}

/** Whether two outputs would be one regular file, by whatever links and names. */
export function isSameFile(a: Target, b: Target): boolean {
  if (a.stats === undefined || b.stats === undefined) {
    return a.kind === 'file' && b.kind === 'file' && a.path === b.path;
  }
  return isSameStats(a.stats, b.stats);
}

/** Whether two descriptions are those of one regular file. */
export function isSameStats(a: Stats, b: Stats): boolean {
  return a.isFile() && a.dev === b.dev && a.ino === b.ino;
}

function openTarget(descriptor: number): Target | NoTarget {
  const stats = fstatSync(descriptor);
  if (stats.isDirectory()) return refusal('a file', 'a folder');
  return { kind: 'descriptor', descriptor, stats };
}

function targetAt(given: string): Target | NoTarget {
  if (given.endsWith('/') && lstatSync(given, { throwIfNoEntry: false }) === undefined) {
    return refusal('a file', 'the name of a folder, with / at its end');
  }
  const path = withoutLinks(resolve(given));
  if (path === undefined) return refusal('a file in an existing folder', given);
  const stats = statSync(path, { throwIfNoEntry: false });
  if (stats?.isDirectory()) return refusal('a file', `the folder ${given}`);
  if (stats?.isBlockDevice() || stats?.isSocket()) return refusal('a file', describeKind(stats));
  const { W_OK, X_OK } = constants;
  if (stats === undefined) accessSync(dirname(path), W_OK | X_OK);
  else accessSync(path, W_OK);
  if (stats === undefined || stats.isFile()) return { kind: 'file', path, stats };
  return { kind: 'stream', path, stats };
}

/** How many links may lead to links [Linux, MAXSYMLINKS]. */
const linksMax = 40;

/** The path of a file that may not be there yet; undefined when its folder is not there. */
function withoutLinks(path: string, links = 0): string | undefined {
  const folder = realpathOf(dirname(path));
  if (folder === undefined || !statSync(folder).isDirectory()) return undefined;
  const inFolder = join(folder, basename(path));
  const isLink = lstatSync(inFolder, { throwIfNoEntry: false })?.isSymbolicLink() === true;
  if (!isLink || links > linksMax) return realpathOf(inFolder) ?? inFolder;
  return withoutLinks(resolve(folder, readlinkSync(inFolder)), links + 1);
}

/** A path without links, as far as it is there. */
export function realPath(path: string): string {
  const whole = resolve(path);
  let there = whole;
  while (!existsSync(there) && dirname(there) !== there) there = dirname(there);
  return join(realpathSync(there), relative(there, whole));
}

function realpathOf(path: string): string | undefined {
  try {
    return realpathSync(path);
  } catch (error) {
    if (isSystemError(error) && (error.code === 'ENOENT' || error.code === 'ENOTDIR')) {
      return undefined;
    }
    throw error;
  }
}

function refusal(expected: string, found: string): NoTarget {
  return { kind: 'refused', expected, found };
}

/** What the system says, without the path: the message names it already. */
function withoutPath({ message }: Error): string {
  return message.replace(/, \w+(?: '.*)?$/s, '');
}
