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

/** Destination of an output: what its path refers to. */
export type Target =
  /**
   * A regular file. A write replaces it as a whole. `stats` is undefined if the file does not exist
   * yet. `path` contains no symbolic links.
   */
  | { readonly kind: 'file'; readonly path: string; readonly stats: Stats | undefined }
  /** A device or a pipe. Writing sends bytes to the device or pipe and does not replace it. */
  | { readonly kind: 'stream'; readonly path: string; readonly stats: Stats }
  /** A descriptor that the process was started with, named by a path such as `/dev/stdout`. */
  | { readonly kind: 'descriptor'; readonly descriptor: number; readonly stats: Stats };

/**
 * Reason why a path cannot be an output. `expected` and `found` are the two parts of a message such
 * as "expected a file, found a folder".
 */
export interface NoTarget {
  readonly kind: 'refused';
  readonly expected: string;
  readonly found: string;
}

/**
 * Returns what the path of an output refers to, or the reason why the path cannot be an output.
 * Checks the permission to write. A later write may still fail for other reasons. Changes nothing
 * on disk.
 */
export function targetOf(path: string): Target | NoTarget {
  const descriptor = descriptorOf(path);
  try {
    return descriptor === undefined ? targetAt(path) : openTarget(descriptor);
  } catch (error) {
    if (!isSystemError(error)) throw error;
    return refusal('a file that can be written', withoutPath(error));
  }
}

/**
 * Returns the number of the descriptor that a path names: 1 for `/dev/stdout`, 63 for `/dev/fd/63`
 * (the shell passes such a path for `>(…)`). Returns undefined for any other path.
 */
export function descriptorOf(path: string): number | undefined {
  const named = ['/dev/stdin', '/dev/stdout', '/dev/stderr'].indexOf(path);
  if (named >= 0) return named;
  const number = /^\/(?:dev|proc\/self)\/fd\/(\d{1,9})$/.exec(path)?.[1];
  return number === undefined ? undefined : Number(number);
}

/**
 * True if two outputs are the same regular file. Their paths may still differ, for example because
 * of links.
 */
export function isSameFile(a: Target, b: Target): boolean {
  if (a.stats === undefined || b.stats === undefined) {
    return a.kind === 'file' && b.kind === 'file' && a.path === b.path;
  }
  return isSameStats(a.stats, b.stats);
}

/** True if two `Stats` describe the same regular file: equal device and inode. */
export function isSameStats(a: Stats, b: Stats): boolean {
  return a.isFile() && a.dev === b.dev && a.ino === b.ino;
}

/** True if the open file is still at `path`, so nobody has deleted or replaced it. */
export function isAt(path: string, file: number): boolean {
  return statSync(path, { throwIfNoEntry: false })?.ino === fstatSync(file).ino;
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

/** Longest chain of symbolic links that is followed [Linux, MAXSYMLINKS]. */
const linksMax = 40;

/**
 * Resolves the symbolic links of a path. The file at the path need not exist. Returns undefined if
 * the folder of the file does not exist.
 */
function withoutLinks(path: string, links = 0): string | undefined {
  const folder = realpathOf(dirname(path));
  if (folder === undefined || !statSync(folder).isDirectory()) return undefined;
  const inFolder = join(folder, basename(path));
  const isLink = lstatSync(inFolder, { throwIfNoEntry: false })?.isSymbolicLink() === true;
  if (!isLink || links > linksMax) return realpathOf(inFolder) ?? inFolder;
  return withoutLinks(resolve(folder, readlinkSync(inFolder)), links + 1);
}

/**
 * Resolves the symbolic links in the existing part of a path and appends the missing part
 * unchanged.
 */
export function realPath(path: string): string {
  const whole = resolve(path);
  const there = nearestExisting(whole);
  return join(realpathSync(there), relative(there, whole));
}

/** Returns an absolute path if it exists, otherwise the nearest existing folder above it. */
export function nearestExisting(path: string): string {
  const above = dirname(path);
  return existsSync(path) || above === path ? path : nearestExisting(above);
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

/**
 * Returns the message of a system error without the names of the system call and of the file. The
 * caller's own message names the file already.
 */
function withoutPath({ message }: Error): string {
  return message.replace(/, \w+(?: '.*)?$/s, '');
}
