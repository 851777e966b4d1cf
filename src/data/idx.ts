import { lstatSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { constants, gunzipSync } from 'node:zlib';
import { readRegularFile } from '../files/read.ts';
import { isSystemError } from '../files/system-error.ts';
import { PodError } from '../numerics/error.ts';
import { quoteName } from '../numerics/quote.ts';

/** The elements of one IDX file, after its header: `count` items of equal size. */
export interface IdxFile {
  readonly path: string;
  readonly count: number;
  readonly data: Uint8Array;
}

/** Advice for a file whose contents are wrong. */
export const fetchAgain = 'fetch the file again';

/** More than ten times the 60,000 images of MNIST: what claims to be larger is refused unread. */
const bytesMax = 2 ** 29;

/**
 * IDX files in a folder, each gzipped or not. Names that differ only in upper case, or have `.idx`
 * for `-idx` as some sources write them, are found too.
 */
export class IdxFolder {
  readonly #dir: string;
  /** Names in the folder by the name that they stand for. */
  readonly #names: ReadonlyMap<string, readonly string[]>;
  readonly #notes: string[] = [];

  /** @throws PodError `bad-data` when the folder cannot be listed. */
  constructor(dir: string) {
    this.#dir = dir;
    this.#names = namesIn(dir);
  }

  /** What should be said to the user, each in one line: which of two files is read. */
  get notes(): readonly string[] {
    return this.#notes;
  }

  /** Whether a file is there under one of its names. */
  has(name: string): boolean {
    return this.#names.has(name);
  }

  /**
   * Reads a file whose items have the given dimensions. Every byte that means something is checked.
   *
   * @throws PodError `bad-data`: one line with the file, what was expected, what was found, what to do.
   */
  read(name: string, itemDims: readonly number[]): IdxFile {
    const path = this.#choose(name);
    const { bytes, header } = contents(path, itemDims);
    if (bytes.length !== header.fileBytes) {
      const expected = `${header.fileBytes} bytes for ${header.count} items`;
      throw malformed(path, expected, `${bytes.length}`, fetchAgain);
    }
    return { path, count: header.count, data: bytes.subarray(header.bytes) };
  }

  #choose(name: string): string {
    const [taken, ...others] = this.#names.get(name) ?? [];
    if (taken === undefined) {
      const path = join(this.#dir, name);
      throw malformed(path, `this file, or ${name}.gz`, 'neither', 'name another folder');
    }
    if (others.length > 0) {
      this.#notes.push(
        `${quoteName(this.#dir)}: ${taken} is read, not ${others.join(', ')} beside it`,
      );
    }
    return join(this.#dir, taken);
  }
}

/** Names in a folder by what they stand for: the plainest name first, an unpacked file before a packed one. */
function namesIn(dir: string): ReadonlyMap<string, readonly string[]> {
  const names = new Map<string, string[]>();
  for (const name of list(dir).sort((a, b) => oddness(a) - oddness(b) || (a < b ? -1 : 1))) {
    const meant = meaning(name);
    names.set(meant, [...(names.get(meant) ?? []), name]);
  }
  return names;
}

function list(dir: string): string[] {
  try {
    // A data set has four files; a folder of many others is listed all the same.
    return readdirSync(dir).filter((name) => /ubyte/i.test(name));
  } catch (cause) {
    if (!isSystemError(cause)) throw cause;
    throw malformed(dir, 'a folder with the files of MNIST', ...folderTrouble(dir, cause), cause);
  }
}

/** What was found in the place of a folder, and what to do. */
function folderTrouble(dir: string, { code, message }: NodeJS.ErrnoException): [string, string] {
  if (code === 'ENOENT' && dir.startsWith('~')) {
    return ['nothing there', 'the shell does not expand ~ here: write $HOME'];
  }
  if (code === 'ENOENT') return ['nothing there', 'name another folder'];
  if (code === 'ENOTDIR') return ['a file', 'name the folder that it lies in'];
  if (code === 'EACCES') return ['one that this user may not read', 'change its rights'];
  return [message, 'name another folder'];
}

function meaning(name: string): string {
  return name
    .toLowerCase()
    .replace(/\.gz$/, '')
    .replace(/\.(?=idx\d-)/, '-');
}

function oddness(name: string): number {
  const isPacked = /\.gz$/i.test(name);
  return (name.replace(/\.gz$/, '') === meaning(name) ? 0 : 2) + (isPacked ? 1 : 0);
}

interface Header {
  readonly count: number;
  /** Length of the header itself. */
  readonly bytes: number;
  /** Length of the whole file. */
  readonly fileBytes: number;
}

interface Contents {
  readonly bytes: Uint8Array;
  readonly header: Header;
}

/** What is in the file, unpacked, and what its header says of it. */
function contents(path: string, itemDims: readonly number[]): Contents {
  const bytes = read(path);
  const isGzip = bytes[0] === 0x1f && bytes[1] === 0x8b;
  if (/\.gz$/i.test(path)) {
    if (!isGzip) throw noGzip(path, bytes);
    return unpacked(path, bytes, itemDims);
  }
  if (isGzip) throw malformed(path, 'a file that is not packed', 'gzip', 'add .gz to its name');
  return { bytes, header: headerOf(path, bytes, itemDims) };
}

function noGzip(path: string, bytes: Uint8Array): PodError {
  const isPlain = bytes[0] === 0 && bytes[1] === 0 && bytes[2] === 8;
  const found = isPlain ? 'a file that is not packed' : `no gzip: ${beginning(bytes)}`;
  return malformed(path, 'gzip', found, isPlain ? 'take .gz off its name' : fetchAgain);
}

/** How much of a packed file is unpacked to read the header: it has some bytes for its own header. */
const packedHeadBytes = 1024;

/** The header of the file says how much there is to unpack: more is refused without unpacking it. */
function unpacked(path: string, packed: Uint8Array, itemDims: readonly number[]): Contents {
  const head = unzip(path, packed.subarray(0, packedHeadBytes), 'start', bytesMax);
  const header = headerOf(path, head, itemDims);
  return { bytes: unzip(path, packed, 'whole', header.fileBytes), header };
}

function unzip(
  path: string,
  packed: Uint8Array,
  part: 'start' | 'whole',
  lengthMax: number,
): Buffer {
  const { Z_SYNC_FLUSH, Z_FINISH } = constants;
  const finishFlush = part === 'start' ? Z_SYNC_FLUSH : Z_FINISH;
  try {
    return gunzipSync(packed, { maxOutputLength: lengthMax, finishFlush });
  } catch (cause) {
    const isMore = (cause as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE';
    const found = isMore ? 'more' : (cause as Error).message;
    throw malformed(path, `gzip of at most ${lengthMax} bytes`, found, fetchAgain, cause);
  }
}

/** IDX: 0, 0, type (8: unsigned bytes), rank, then each dimension as a big-endian u32, then data. */
function headerOf(path: string, bytes: Uint8Array, itemDims: readonly number[]): Header {
  const rank = itemDims.length + 1;
  const headerBytes = 4 + 4 * rank;
  const magic = [0, 0, 8, rank];
  if (!magic.every((byte, i) => byte === bytes[i])) {
    const expected = `the magic bytes [${magic.join(' ')}]`;
    throw malformed(path, expected, beginning(bytes), fetchAgain);
  }
  if (bytes.length < headerBytes) {
    throw malformed(path, `a header of ${headerBytes} bytes`, `${bytes.length} bytes`, fetchAgain);
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const dims = itemDims.map((_, i) => view.getUint32(8 + 4 * i));
  if (!dims.every((size, i) => size === itemDims[i])) {
    throw malformed(path, `items of ${itemDims.join('×')}`, dims.join('×'), fetchAgain);
  }
  const count = view.getUint32(4);
  if (count === 0) throw malformed(path, 'at least one item', 'none', fetchAgain);
  const fileBytes = headerBytes + count * itemDims.reduce((product, size) => product * size, 1);
  if (fileBytes > bytesMax) {
    throw malformed(path, `at most ${bytesMax} bytes`, `${count} items in its header`, fetchAgain);
  }
  return { count, bytes: headerBytes, fileBytes };
}

function beginning(bytes: Uint8Array): string {
  return bytes.length === 0 ? 'an empty file' : `[${bytes.subarray(0, 4).join(' ')}]`;
}

function read(path: string): Buffer {
  const found = readRegularFile(path, bytesMax);
  if (found.kind === 'contents') return found.bytes;
  throw malformed(path, `a file of at most ${bytesMax} bytes to read`, ...fileTrouble(path, found));
}

/** What was found in the place of a file, and what to do. */
function fileTrouble(
  path: string,
  { kind, found }: { readonly kind: 'missing' | 'refused'; readonly found: string },
): [string, string] {
  if (kind === 'missing' && isLink(path)) return ['a link that leads nowhere', 'mend the link'];
  const isForbidden = found.startsWith('EACCES') || found.startsWith('EPERM');
  if (isForbidden) return ['one that this user may not read', 'change its rights'];
  return [found, 'put a regular file there'];
}

function isLink(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink() === true;
}

/** A file of a data set is not what it should be, in one line. */
export function malformed(
  path: string,
  expected: string,
  found: string,
  advice: string,
  cause?: unknown,
): PodError {
  const message = `${quoteName(path)}: expected ${expected}, found ${found}; ${advice}`;
  return new PodError('bad-data', message, cause);
}
