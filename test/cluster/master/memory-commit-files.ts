import type { CommitFile, CommitFiles } from '../../../cluster/master/commit-files.ts';
import { at } from '../../../src/numerics/assert.ts';
import {
  emptyDirectory,
  type MemoryDirectory,
  type MemoryFile,
  Stopped,
} from '../../experiment/checkpoint/memory-files.ts';

/**
 * Commit logs in memory, in place of files. They record what would survive a loss of power. They
 * can simulate that the process stops at any operation: the operation then throws Stopped.
 */
export class MemoryCommitFiles implements CommitFiles {
  readonly root: MemoryDirectory;
  /** Number of operations so far that change a file or folder. */
  count = 0;
  readonly #stopAt: number;

  /**
   * `stopAt` is the number of the operation before which the process stops. If this operation is a
   * write, half of its bytes are written.
   */
  constructor(root: MemoryDirectory, stopAt: number = Number.POSITIVE_INFINITY) {
    this.root = root;
    this.#stopAt = stopAt;
  }

  hasDirectory(path: string): boolean {
    this.#alive();
    return this.#directory(namesOf(path)) !== undefined;
  }

  makeDirectory(path: string): void {
    this.#operate();
    const { parent, name } = this.#place(path);
    if (!parent.entries.has(name)) parent.entries.set(name, emptyDirectory());
  }

  open(path: string): CommitFile {
    this.#operate();
    const { parent, name } = this.#place(path);
    const found = parent.entries.get(name) ?? emptyFile();
    if (found.kind !== 'file') throw new Error(`${path} is a directory`);
    parent.entries.set(name, found);
    return this.#opened(found);
  }

  syncDirectory(path: string): void {
    this.#operate();
    const directory = this.#directory(namesOf(path));
    if (directory === undefined) throw new Error(`${path} is not there`);
    directory.durable = new Map(directory.entries);
  }

  #opened(file: MemoryFile): CommitFile {
    const add = (bytes: Uint8Array): void => {
      file.bytes = Buffer.concat([file.bytes, bytes]);
    };
    return {
      size: () => file.bytes.length,
      read: (target, position) => {
        this.#alive();
        const piece = file.bytes.subarray(position, position + target.length);
        target.set(piece);
        return piece.length;
      },
      append: (bytes) => {
        this.#operate(() => add(bytes.subarray(0, bytes.length >> 1)));
        add(bytes);
        return bytes.length;
      },
      sync: () => {
        this.#operate();
        file.durable = file.bytes;
      },
      close: () => undefined,
    };
  }

  #place(path: string): { readonly parent: MemoryDirectory; readonly name: string } {
    const names = namesOf(path);
    const parent = this.#directory(names.slice(0, -1));
    if (parent === undefined) throw new Error(`${path}: its directory is not there`);
    return { parent, name: at(names, names.length - 1) };
  }

  #directory(names: readonly string[]): MemoryDirectory | undefined {
    let directory: MemoryDirectory = this.root;
    for (const name of names) {
      const next = directory.entries.get(name);
      if (next?.kind !== 'directory') return undefined;
      directory = next;
    }
    return directory;
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

function emptyFile(): MemoryFile {
  return { kind: 'file', bytes: new Uint8Array(), durable: new Uint8Array() };
}

function namesOf(path: string): string[] {
  return path.split('/').filter((name) => name !== '' && name !== '.');
}
