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

/** Advice in messages about a file whose contents are wrong. */
export const fetchAgain = 'fetch the file again';

/**
 * Largest accepted size of an IDX file in bytes, both gzipped and unpacked. The limit is more than
 * ten times the size of the 60,000 images of MNIST. A file is refused if it is larger, or if its
 * header promises more bytes.
 */
const bytesMax = 2 ** 29;

/**
 * Folder of IDX files, each plain or gzipped. Some sources of MNIST write file names with
 * upper-case letters, or with `.idx` in place of `-idx`. The folder accepts these spellings too.
 */
export class IdxFolder {
  readonly #dir: string;
  /**
   * The files in the folder, grouped by standard name. For example, the file
   * `Train-Images.idx3-ubyte.gz` belongs to the standard name `train-images-idx3-ubyte`. In each
   * group, files in the standard spelling come first, and a plain file comes before a gzipped file
   * of the same spelling. `read` takes the first file of a group.
   */
  readonly #names: ReadonlyMap<string, readonly string[]>;
  readonly #notes: string[] = [];

  /** @throws PodError `bad-data` if the folder cannot be listed. */
  constructor(dir: string) {
    this.#dir = dir;
    this.#names = namesIn(dir);
  }

  /**
   * Notes for the user, one line each. A note says which file is read if the folder has several
   * files for the same standard name.
   */
  get notes(): readonly string[] {
    return this.#notes;
  }

  /** True if the folder has a file with the standard name `name`, in any spelling. */
  has(name: string): boolean {
    return this.#names.has(name);
  }

  /**
   * Reads the file with the standard name `name`, whose items have the dimensions `itemDims`.
   * Checks the header and the length of the file.
   *
   * @throws PodError `bad-data` if the file is missing or wrong. The message is one line. It names
   *   the file and says what was expected, what was found and what to do.
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
        `${quoteName(this.#dir)}: ${taken} is read; ${others.join(', ')} in the same folder is ignored`,
      );
    }
    return join(this.#dir, taken);
  }
}

/**
 * Groups the file names of a folder by standard name. In each group, the standard spelling comes
 * first, and a plain file comes before a gzipped file of the same spelling.
 */
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
    // The folder may also contain unrelated files. The names of all four files of MNIST contain
    // `ubyte`, so names without `ubyte` are left out.
    return readdirSync(dir).filter((name) => /ubyte/i.test(name));
  } catch (cause) {
    if (!isSystemError(cause)) throw cause;
    throw malformed(dir, 'a folder with the files of MNIST', ...folderTrouble(dir, cause), cause);
  }
}

/**
 * Returns two phrases for a message about a folder that cannot be listed: what was found, and what
 * to do.
 */
function folderTrouble(dir: string, { code, message }: NodeJS.ErrnoException): [string, string] {
  if (code === 'ENOENT' && dir.startsWith('~')) {
    return ['nothing there', 'the shell does not expand ~ here: write $HOME'];
  }
  if (code === 'ENOENT') return ['nothing there', 'name another folder'];
  if (code === 'ENOTDIR') return ['a file', 'name the folder of that file'];
  if (code === 'EACCES')
    return ['a folder that this user may not read', 'change its permissions (chmod)'];
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
  /** Size of the header in bytes. */
  readonly bytes: number;
  /** Size of the whole unpacked file in bytes, as the header says. */
  readonly fileBytes: number;
}

interface Contents {
  readonly bytes: Uint8Array;
  readonly header: Header;
}

/** Reads a file, unpacks it if it is gzipped, and parses its header. */
function contents(path: string, itemDims: readonly number[]): Contents {
  const bytes = read(path);
  const isGzip = bytes[0] === 0x1f && bytes[1] === 0x8b;
  if (/\.gz$/i.test(path)) {
    if (!isGzip) throw noGzip(path, bytes);
    return unpacked(path, bytes, itemDims);
  }
  if (isGzip) throw malformed(path, 'a file that is not compressed', 'gzip', 'add .gz to its name');
  return { bytes, header: headerOf(path, bytes, itemDims) };
}

function noGzip(path: string, bytes: Uint8Array): PodError {
  const isPlain = bytes[0] === 0 && bytes[1] === 0 && bytes[2] === 8;
  const found = isPlain ? 'a file that is not compressed' : beginning(bytes);
  return malformed(path, 'gzip', found, isPlain ? 'remove .gz from its name' : fetchAgain);
}

/**
 * Number of bytes at the start of a gzipped file that are unpacked to read the IDX header. They
 * include the gzip header.
 */
const packedHeadBytes = 1024;

/**
 * Unpacks a gzipped file in two passes. The first pass unpacks only the start of the file and reads
 * the IDX header, which says how long the unpacked file is. The second pass unpacks the whole file.
 * It fails as soon as the unpacked file is longer than the header says.
 */
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
    throw malformed(
      path,
      `gzip with at most ${lengthMax} bytes of content`,
      found,
      fetchAgain,
      cause,
    );
  }
}

/**
 * Parses an IDX header. The header has the bytes 0 and 0, the element type (8 for unsigned bytes)
 * and the number of dimensions. Each dimension follows as a big-endian u32.
 */
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
    throw malformed(path, `at most ${bytesMax} bytes`, `a header for ${count} items`, fetchAgain);
  }
  return { count, bytes: headerBytes, fileBytes };
}

function beginning(bytes: Uint8Array): string {
  return bytes.length === 0 ? 'an empty file' : `the bytes [${bytes.subarray(0, 4).join(' ')}]`;
}

function read(path: string): Buffer {
  const found = readRegularFile(path, bytesMax);
  if (found.kind === 'contents') return found.bytes;
  throw malformed(
    path,
    `a readable file of at most ${bytesMax} bytes`,
    ...fileTrouble(path, found),
  );
}

/**
 * Returns two phrases for a message about a file that cannot be read: what was found, and what to
 * do.
 */
function fileTrouble(
  path: string,
  { kind, found }: { readonly kind: 'missing' | 'refused'; readonly found: string },
): [string, string] {
  if (kind === 'missing' && isLink(path)) return ['a link that leads nowhere', 'repair the link'];
  const isForbidden = found.startsWith('EACCES') || found.startsWith('EPERM');
  if (isForbidden) return ['a file that this user may not read', 'change its permissions (chmod)'];
  return [found, 'put a regular file there'];
}

function isLink(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink() === true;
}

/**
 * Returns the error for a wrong file or folder of a data set: PodError `bad-data` with a message of
 * one line.
 */
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
