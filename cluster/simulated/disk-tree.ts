import type { Kind } from '../../src/experiment/checkpoint/files.ts';
import { at } from '../../src/numerics/assert.ts';

/**
 * Directory of a file system in memory that models a loss of power. `durable` has the entries as
 * they were at the last sync of the directory. Only these entries would survive a loss of power.
 */
export interface MemoryDirectory {
  readonly kind: 'directory';
  entries: Map<string, MemoryNode>;
  durable: ReadonlyMap<string, MemoryNode>;
}
/**
 * File in memory. `durable` has the bytes of the file as they were at its last sync. Only these
 * bytes would survive a loss of power.
 */
export interface MemoryFile {
  readonly kind: 'file';
  bytes: Uint8Array;
  durable: Uint8Array;
}
/** File or directory in memory. */
export type MemoryNode = MemoryDirectory | MemoryFile;

/** Returns a directory without entries. */
export function emptyDirectory(): MemoryDirectory {
  return { kind: 'directory', entries: new Map(), durable: new Map() };
}

function emptyFile(): MemoryFile {
  return { kind: 'file', bytes: new Uint8Array(), durable: new Uint8Array() };
}

/**
 * A file system in memory. Each operation is done at once, or fails with the error that Node would
 * throw.
 */
export class DiskTree {
  root: MemoryDirectory;

  constructor(root: MemoryDirectory = emptyDirectory()) {
    this.root = root;
  }

  /** Returns the file or directory at a path, or undefined. */
  node(path: string): MemoryNode | undefined {
    let node: MemoryNode | undefined = this.root;
    for (const name of namesOf(path)) {
      node = node?.kind === 'directory' ? node.entries.get(name) : undefined;
    }
    return node;
  }

  kindOf(path: string): Kind | undefined {
    return this.node(path)?.kind;
  }

  readDirectory(path: string): readonly string[] {
    return [...this.#directory(path, 'scandir').entries.keys()];
  }

  /** Returns a copy of the bytes of a file. Throws EFBIG if there are more than `bytesMax`. */
  readFile(path: string, bytesMax: number): Uint8Array {
    const node = this.node(path);
    if (node === undefined) throw systemError('ENOENT', 'open', path);
    if (node.kind === 'directory') throw systemError('EISDIR', 'read', path);
    if (node.bytes.length > bytesMax) throw systemError('EFBIG', 'read', path);
    return node.bytes.slice();
  }

  makeDirectory(path: string): void {
    const { parent, name } = this.#place(path, 'mkdir');
    if (parent.entries.has(name)) throw systemError('EEXIST', 'mkdir', path);
    parent.entries.set(name, emptyDirectory());
  }

  /** Creates an empty file. Throws EEXIST if the path exists. */
  createFile(path: string): MemoryFile {
    if (this.node(path) !== undefined) throw systemError('EEXIST', 'open', path);
    return this.openFile(path);
  }

  /** Returns the file at a path. Creates the file if it does not exist. */
  openFile(path: string): MemoryFile {
    const { parent, name } = this.#place(path, 'open');
    const found = parent.entries.get(name) ?? emptyFile();
    if (found.kind === 'directory') throw systemError('EISDIR', 'open', path);
    parent.entries.set(name, found);
    return found;
  }

  rename(from: string, to: string): void {
    const [source, target] = [this.#place(from, 'rename'), this.#place(to, 'rename')];
    const node = source.parent.entries.get(source.name);
    if (node === undefined) throw systemError('ENOENT', 'rename', from);
    const present = target.parent.entries.get(target.name);
    if (present?.kind === 'directory' && present.entries.size > 0) {
      throw systemError('ENOTEMPTY', 'rename', to);
    }
    source.parent.entries.delete(source.name);
    target.parent.entries.set(target.name, node);
  }

  removeFile(path: string): void {
    const { parent, name } = this.#place(path, 'unlink');
    if (!parent.entries.delete(name)) throw systemError('ENOENT', 'unlink', path);
  }

  removeDirectory(path: string): void {
    if (this.#directory(path, 'rmdir').entries.size > 0) {
      throw systemError('ENOTEMPTY', 'rmdir', path);
    }
    const { parent, name } = this.#place(path, 'rmdir');
    parent.entries.delete(name);
  }

  syncDirectory(path: string): void {
    const directory = this.#directory(path, 'fsync');
    directory.durable = new Map(directory.entries);
  }

  #directory(path: string, syscall: string): MemoryDirectory {
    const node = this.node(path);
    if (node === undefined) throw systemError('ENOENT', syscall, path);
    if (node.kind === 'file') throw systemError('ENOTDIR', syscall, path);
    return node;
  }

  #place(path: string, syscall: string): { parent: MemoryDirectory; name: string } {
    const names = namesOf(path);
    const parent = this.#directory(names.slice(0, -1).join('/'), syscall);
    return { parent, name: at(names, names.length - 1) };
  }
}

/**
 * Buffers that {@link append} has made. Such a buffer may be longer than its file, so that more
 * bytes can be appended without a copy.
 */
const roomy: WeakSet<ArrayBufferLike> = new WeakSet();

/**
 * Appends bytes to a file. The new bytes become durable with the next sync of the file. The buffer
 * of the file grows by doubling, so the time for many appends is proportional to the number of
 * appended bytes.
 */
export function append(file: MemoryFile, more: Uint8Array): void {
  const { bytes } = file;
  const length = bytes.length + more.length;
  const hasRoom = roomy.has(bytes.buffer) && length <= bytes.buffer.byteLength;
  const buffer = hasRoom ? bytes.buffer : new ArrayBuffer(2 * length);
  if (!hasRoom) {
    roomy.add(buffer);
    new Uint8Array(buffer).set(bytes);
  }
  const grown = new Uint8Array(buffer, 0, length);
  grown.set(more, bytes.length);
  file.bytes = grown;
}

/**
 * Copies bytes of a file, from `position` on, to the start of `target`. Returns the number of
 * copied bytes. It is less than the length of `target` if the file ends first.
 */
export function read(file: MemoryFile, target: Uint8Array, position: number): number {
  const piece = file.bytes.subarray(position, position + target.length);
  target.set(piece);
  return piece.length;
}

/** Makes all bytes of a file durable. */
export function sync(file: MemoryFile): void {
  file.durable = file.bytes;
}

/** The part of the unsynced changes that survives a loss of power. */
export interface Survival {
  /** Names that survive in the directory `path`: those at its last sync, or all. */
  readonly names: (path: string) => 'synced' | 'all';
  /**
   * Bytes of a file that survive: the synced bytes, the synced bytes and half of the unsynced
   * bytes, or all bytes.
   */
  readonly bytes: 'synced' | 'half' | 'all';
}

/** For the end of a process whose machine keeps running: all changes survive. */
export const allSurvives: Survival = { names: () => 'all', bytes: 'all' };
/** For a loss of power: all unsynced changes are lost. */
export const syncedSurvives: Survival = { names: () => 'synced', bytes: 'synced' };

/** Returns a copy of a directory as it is after a loss of power and a restart of the machine. */
export function afterPowerLoss(
  directory: MemoryDirectory,
  survival: Survival,
  path: string = '',
): MemoryDirectory {
  const listed = survival.names(path) === 'all' ? directory.entries : directory.durable;
  const entries = new Map<string, MemoryNode>();
  for (const [name, node] of listed) {
    const inside = path === '' ? name : `${path}/${name}`;
    entries.set(
      name,
      node.kind === 'file'
        ? fileOf(survivingBytes(node, survival.bytes).slice())
        : afterPowerLoss(node, survival, inside),
    );
  }
  return { kind: 'directory', entries, durable: new Map(entries) };
}

function survivingBytes({ bytes, durable }: MemoryFile, survival: Survival['bytes']): Uint8Array {
  if (survival === 'all') return bytes;
  if (survival === 'synced') return durable;
  return bytes.slice(0, (durable.length + bytes.length) >> 1);
}

function fileOf(bytes: Uint8Array): MemoryFile {
  return { kind: 'file', bytes, durable: bytes };
}

function namesOf(path: string): string[] {
  return path.split(/[\\/]/).filter((name) => name !== '' && name !== '.');
}

/** Returns an error as Node throws it for a failed operation on a file. */
export function systemError(code: string, syscall: string, path: string): NodeJS.ErrnoException {
  return Object.assign(new Error(`${code}: planted, ${syscall} '${path}'`), { code, syscall });
}
