import type { JobFiles } from '../../../cluster/master/job-files.ts';
import {
  append,
  DiskTree,
  emptyDirectory,
  type MemoryDirectory,
  type MemoryFile,
  sync,
  systemError,
} from '../../../cluster/simulated/disk-tree.ts';
import { Stopped } from '../../experiment/checkpoint/memory-files.ts';

/**
 * The process stops before operation `at`, counted from 0. Only operations that change a file or
 * folder count. If operation `at` is a write and `partial` is true, half of its bytes are written.
 */
export interface Stop {
  readonly at: number;
  readonly partial: boolean;
}

/**
 * Files of jobs, in memory. The object records what would survive a loss of power. A test can
 * choose an operation at which the simulated process stops. This operation then throws Stopped.
 */
export class MemoryJobFiles implements JobFiles {
  readonly root: MemoryDirectory;
  /** Operations so far that change a file or folder, in order, each as a text. */
  readonly operations: string[] = [];
  /** Error code, such as `ENOSPC`, with which every change fails. Undefined if changes succeed. */
  error: string | undefined;
  readonly #tree: DiskTree;
  readonly #stop: Stop | undefined;

  constructor(root: MemoryDirectory = withFolder('data'), stop?: Stop) {
    this.root = root;
    this.#tree = new DiskTree(root);
    this.#stop = stop;
  }

  names(directory: string): readonly string[] {
    this.#alive();
    return this.#tree.kindOf(directory) === 'directory' ? this.#tree.readDirectory(directory) : [];
  }

  read(path: string): string | undefined {
    const file = this.#found(path);
    return file && Buffer.from(file.bytes).toString('utf8');
  }

  makeDirectory(path: string): void {
    this.#alive();
    const names = path.split('/');
    for (const end of names.keys()) {
      const made = names.slice(0, end + 1).join('/');
      if (this.#tree.kindOf(made) !== undefined) continue;
      this.#operate('mkdir', made);
      this.#tree.makeDirectory(made);
    }
  }

  write(path: string, text: string): void {
    this.#operate('create', path);
    const file = this.#tree.openFile(path);
    file.bytes = new Uint8Array();
    this.#add(file, path, text);
    this.#operate('fsync', path);
    sync(file);
  }

  rename(from: string, to: string): void {
    this.#operate('rename', from);
    this.#tree.rename(from, to);
  }

  syncDirectory(path: string): void {
    this.#operate('fsync', path);
    this.#tree.syncDirectory(path);
  }

  append(path: string, text: string): void {
    this.#alive();
    this.#add(this.#tree.openFile(path), path, text);
  }

  size(path: string): number {
    return this.#found(path)?.bytes.length ?? 0;
  }

  readAt(path: string, offset: number, bytesMax: number): Buffer {
    return Buffer.from(this.#file(path).bytes.subarray(offset, offset + bytesMax));
  }

  truncate(path: string, bytes: number): void {
    this.#operate('truncate', path);
    const file = this.#file(path);
    file.bytes = file.bytes.slice(0, bytes);
  }

  #add(file: MemoryFile, path: string, text: string): void {
    const bytes = Buffer.from(text);
    this.#operate('write', path, () => append(file, bytes.subarray(0, bytes.length >> 1)));
    append(file, bytes);
  }

  #found(path: string): MemoryFile | undefined {
    this.#alive();
    const node = this.#tree.node(path);
    return node?.kind === 'file' ? node : undefined;
  }

  #file(path: string): MemoryFile {
    const file = this.#found(path);
    if (file === undefined) throw systemError('ENOENT', 'open', path);
    return file;
  }

  #operate(what: string, path: string, half?: () => void): void {
    if (this.error !== undefined) throw systemError(this.error, what, path);
    const number = this.operations.length;
    this.operations.push(`${what} ${path}`);
    if (this.#stop === undefined || number < this.#stop.at) return;
    if (number === this.#stop.at && this.#stop.partial) half?.();
    throw new Stopped();
  }

  /**
   * Throws Stopped if the process has been stopped. A stopped process can do nothing, not even
   * read.
   */
  #alive(): void {
    if (this.#stop !== undefined && this.operations.length > this.#stop.at) throw new Stopped();
  }
}

/** Returns a disk with an empty folder `name`, which is still there after a loss of power. */
function withFolder(name: string): MemoryDirectory {
  const entries = new Map([[name, emptyDirectory()]]);
  return { kind: 'directory', entries, durable: new Map(entries) };
}
