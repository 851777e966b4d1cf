import type { FileSystem, Kind, NewFile } from '../../../src/experiment/checkpoint/files.ts';
import { at } from '../../../src/numerics/assert.ts';

/**
 * Directory of a file system in memory that models a loss of power. `durable` has what would
 * survive a loss of power: the names in a directory, or the bytes of a file, as they were at the
 * last sync.
 */
export interface MemoryDirectory {
  readonly kind: 'directory';
  entries: Map<string, MemoryNode>;
  durable: ReadonlyMap<string, MemoryNode>;
}
export interface MemoryFile {
  readonly kind: 'file';
  bytes: Uint8Array;
  durable: Uint8Array;
}
export type MemoryNode = MemoryDirectory | MemoryFile;

/** A fault at the operation number `at`. */
export type Fault =
  /** The operation fails with this error code and does nothing. All other operations succeed. */
  | { readonly kind: 'error'; readonly at: number; readonly code: string }
  /**
   * The disk is full from this operation on: writes, new files and new folders fail with ENOSPC.
   */
  | { readonly kind: 'full'; readonly at: number }
  /**
   * The process stops before this operation. If the operation is a write and `partial` is true,
   * half of its bytes are written.
   */
  | { readonly kind: 'stop'; readonly at: number; readonly partial?: boolean };

/**
 * Thrown when the process is stopped. Stopped stands for the end of the process, so no code may
 * catch and handle it.
 */
export class Stopped extends Error {}

export function emptyDirectory(): MemoryDirectory {
  return { kind: 'directory', entries: new Map(), durable: new Map() };
}

export class MemoryFiles implements FileSystem {
  readonly root: MemoryDirectory;
  /**
   * Operations so far that change a file or folder, in order, such as `write
   * partial/manifest.json`.
   */
  readonly operations: string[] = [];
  /** Largest number of bytes that one call of write writes. */
  writeBytesMax: number = Number.POSITIVE_INFINITY;
  fault: Fault | undefined;

  constructor(root: MemoryDirectory = emptyDirectory()) {
    this.root = root;
  }

  async readDirectory(path: string): Promise<readonly string[]> {
    this.#alive();
    return [...this.#directory(path, 'scandir').entries.keys()];
  }

  async kindOf(path: string): Promise<Kind | undefined> {
    this.#alive();
    return this.node(path)?.kind;
  }

  async readFile(path: string, bytesMax: number): Promise<Uint8Array> {
    this.#alive();
    const node = this.node(path);
    if (node === undefined) throw systemError('ENOENT', 'open', path);
    if (node.kind === 'directory') throw systemError('EISDIR', 'read', path);
    if (node.bytes.length > bytesMax) throw systemError('EFBIG', 'read', path);
    return node.bytes.slice();
  }

  async makeDirectory(path: string): Promise<void> {
    this.#operate('mkdir', path);
    const { parent, name } = this.#place(path, 'mkdir');
    if (parent.entries.has(name)) throw systemError('EEXIST', 'mkdir', path);
    parent.entries.set(name, emptyDirectory());
  }

  async createFile(path: string): Promise<NewFile> {
    this.#operate('create', path);
    const { parent, name } = this.#place(path, 'open');
    if (parent.entries.has(name)) throw systemError('EEXIST', 'open', path);
    const file: MemoryFile = { kind: 'file', bytes: new Uint8Array(), durable: new Uint8Array() };
    parent.entries.set(name, file);
    const write = (bytes: Uint8Array): number => {
      const count = Math.min(bytes.length, this.writeBytesMax);
      file.bytes = joined(file.bytes, bytes.subarray(0, count));
      return count;
    };
    return {
      write: async (bytes) => {
        this.#operate('write', path, () => write(bytes.subarray(0, bytes.length >> 1)));
        return write(bytes);
      },
      sync: async () => {
        this.#operate('fsync', path);
        file.durable = file.bytes;
      },
      close: async () => this.#operate('close', path),
    };
  }

  async rename(from: string, to: string): Promise<void> {
    this.#operate('rename', from);
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

  async removeFile(path: string): Promise<void> {
    this.#operate('unlink', path);
    const { parent, name } = this.#place(path, 'unlink');
    if (!parent.entries.delete(name)) throw systemError('ENOENT', 'unlink', path);
  }

  async removeDirectory(path: string): Promise<void> {
    this.#operate('rmdir', path);
    if (this.#directory(path, 'rmdir').entries.size > 0) {
      throw systemError('ENOTEMPTY', 'rmdir', path);
    }
    const { parent, name } = this.#place(path, 'rmdir');
    parent.entries.delete(name);
  }

  async syncDirectory(path: string): Promise<void> {
    this.#operate('fsync', path);
    const directory = this.#directory(path, 'fsync');
    directory.durable = new Map(directory.entries);
  }

  /** Returns the file or directory at a path, or undefined. */
  node(path: string): MemoryNode | undefined {
    let node: MemoryNode | undefined = this.root;
    for (const name of namesOf(path)) {
      node = node?.kind === 'directory' ? node.entries.get(name) : undefined;
    }
    return node;
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

  #operate(what: string, path: string, half?: () => void): void {
    this.#alive();
    const number = this.operations.length;
    this.operations.push(`${what} ${path}`);
    const { fault } = this;
    if (fault === undefined || number < fault.at) return;
    if (fault.kind === 'stop') {
      if (number === fault.at && fault.partial) half?.();
      throw new Stopped();
    }
    if (fault.kind === 'full') {
      if (['write', 'create', 'mkdir'].includes(what)) throw systemError('ENOSPC', what, path);
      return;
    }
    if (number === fault.at) throw systemError(fault.code, what, path);
  }

  /**
   * Throws Stopped if the process has been stopped. A stopped process can do nothing, not even
   * read.
   */
  #alive(): void {
    const { fault } = this;
    if (fault?.kind === 'stop' && this.operations.length > fault.at) throw new Stopped();
  }
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
        ? fileOf(survivingBytes(node, survival.bytes))
        : afterPowerLoss(node, survival, inside),
    );
  }
  return { kind: 'directory', entries, durable: new Map(entries) };
}

/** No unsynced change is lost, because only the process ends, and the machine goes on. */
export const allSurvives: Survival = { names: () => 'all', bytes: 'all' };

function survivingBytes({ bytes, durable }: MemoryFile, survival: Survival['bytes']): Uint8Array {
  if (survival === 'all') return bytes;
  if (survival === 'synced') return durable;
  return bytes.slice(0, (durable.length + bytes.length) >> 1);
}

function fileOf(bytes: Uint8Array): MemoryFile {
  return { kind: 'file', bytes, durable: bytes };
}

function joined(a: Uint8Array, b: Uint8Array): Uint8Array {
  const both = new Uint8Array(a.length + b.length);
  both.set(a);
  both.set(b, a.length);
  return both;
}

function namesOf(path: string): string[] {
  return path.split(/[\\/]/).filter((name) => name !== '' && name !== '.');
}

function systemError(code: string, syscall: string, path: string): NodeJS.ErrnoException {
  return Object.assign(new Error(`${code}: planted, ${syscall} '${path}'`), { code, syscall });
}
