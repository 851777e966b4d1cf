import type { CommitFile, CommitFiles } from '../../../cluster/master/commit-files.ts';
import {
  append,
  DiskTree,
  type MemoryDirectory,
  type MemoryFile,
  read,
  sync,
} from '../../../cluster/simulated/disk-tree.ts';
import { Stopped } from '../../experiment/checkpoint/memory-files.ts';

/**
 * Commit logs in memory, in place of files. The object records what would survive a loss of power.
 * A test can choose an operation at which the simulated process stops. This operation then throws
 * Stopped.
 */
export class MemoryCommitFiles implements CommitFiles {
  readonly root: MemoryDirectory;
  /** Number of operations so far that change a file or folder. */
  count = 0;
  readonly #tree: DiskTree;
  readonly #stopAt: number;

  /**
   * The process stops before operation `stopAt`, counted from 0. Only operations that change a file
   * or folder count. If operation `stopAt` is a write, half of its bytes are written.
   */
  constructor(root: MemoryDirectory, stopAt: number = Number.POSITIVE_INFINITY) {
    this.root = root;
    this.#tree = new DiskTree(root);
    this.#stopAt = stopAt;
  }

  hasDirectory(path: string): boolean {
    this.#alive();
    return this.#tree.kindOf(path) === 'directory';
  }

  makeDirectory(path: string): void {
    this.#operate();
    if (this.#tree.kindOf(path) === undefined) this.#tree.makeDirectory(path);
  }

  open(path: string): CommitFile {
    this.#operate();
    return this.#opened(this.#tree.openFile(path));
  }

  syncDirectory(path: string): void {
    this.#operate();
    this.#tree.syncDirectory(path);
  }

  #opened(file: MemoryFile): CommitFile {
    return {
      size: () => file.bytes.length,
      read: (target, position) => {
        this.#alive();
        return read(file, target, position);
      },
      append: (bytes) => {
        this.#operate(() => append(file, bytes.subarray(0, bytes.length >> 1)));
        append(file, bytes);
        return bytes.length;
      },
      sync: () => {
        this.#operate();
        sync(file);
      },
      close: () => undefined,
    };
  }

  #operate(half?: () => void): void {
    this.#alive();
    if (this.count++ < this.#stopAt) return;
    half?.();
    throw new Stopped();
  }

  /**
   * Throws Stopped if the process has been stopped. A stopped process can do nothing, not even
   * read.
   */
  #alive(): void {
    if (this.count > this.#stopAt) throw new Stopped();
  }
}
