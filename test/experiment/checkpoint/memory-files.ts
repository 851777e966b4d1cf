import {
  append,
  DiskTree,
  emptyDirectory,
  type MemoryDirectory,
  type MemoryNode,
  sync,
  systemError,
} from '../../../cluster/simulated/disk-tree.ts';
import type { FileSystem, Kind, NewFile } from '../../../src/experiment/checkpoint/files.ts';

export {
  afterPowerLoss,
  allSurvives,
  emptyDirectory,
  type MemoryDirectory,
  type MemoryFile,
  type MemoryNode,
  type Survival,
} from '../../../cluster/simulated/disk-tree.ts';

/**
 * A fault at operation `at`, counted from 0. Only operations that change a file or folder count.
 */
export type Fault =
  /** Operation `at` changes nothing and fails with the error code `code`. All others succeed. */
  | { readonly kind: 'error'; readonly at: number; readonly code: string }
  /**
   * From operation `at` on, the disk is full. Writes, new files and new folders fail with ENOSPC.
   */
  | { readonly kind: 'full'; readonly at: number }
  /**
   * The process stops before operation `at`. If operation `at` is a write and `partial` is true,
   * half of its bytes are written.
   */
  | { readonly kind: 'stop'; readonly at: number; readonly partial?: boolean };

/**
 * Error that stands for the end of the process. After this error the process must do nothing more,
 * so the code under test must not catch the error.
 */
export class Stopped extends Error {}

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
  readonly #tree: DiskTree;

  constructor(root: MemoryDirectory = emptyDirectory()) {
    this.root = root;
    this.#tree = new DiskTree(root);
  }

  async readDirectory(path: string): Promise<readonly string[]> {
    this.#alive();
    return this.#tree.readDirectory(path);
  }

  async kindOf(path: string): Promise<Kind | undefined> {
    this.#alive();
    return this.#tree.kindOf(path);
  }

  async readFile(path: string, bytesMax: number): Promise<Uint8Array> {
    this.#alive();
    return this.#tree.readFile(path, bytesMax);
  }

  async makeDirectory(path: string): Promise<void> {
    this.#operate('mkdir', path);
    this.#tree.makeDirectory(path);
  }

  async createFile(path: string): Promise<NewFile> {
    this.#operate('create', path);
    const file = this.#tree.createFile(path);
    const write = (bytes: Uint8Array): number => {
      const count = Math.min(bytes.length, this.writeBytesMax);
      append(file, bytes.subarray(0, count));
      return count;
    };
    return {
      write: async (bytes) => {
        this.#operate('write', path, () => write(bytes.subarray(0, bytes.length >> 1)));
        return write(bytes);
      },
      sync: async () => {
        this.#operate('fsync', path);
        sync(file);
      },
      close: async () => this.#operate('close', path),
    };
  }

  async rename(from: string, to: string): Promise<void> {
    this.#operate('rename', from);
    this.#tree.rename(from, to);
  }

  async removeFile(path: string): Promise<void> {
    this.#operate('unlink', path);
    this.#tree.removeFile(path);
  }

  async removeDirectory(path: string): Promise<void> {
    this.#operate('rmdir', path);
    this.#tree.removeDirectory(path);
  }

  async syncDirectory(path: string): Promise<void> {
    this.#operate('fsync', path);
    this.#tree.syncDirectory(path);
  }

  /** Returns the file or directory at a path, or undefined. */
  node(path: string): MemoryNode | undefined {
    return this.#tree.node(path);
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
