import type { JobFiles } from '../../../cluster/master/job-files.ts';
import {
  emptyDirectory,
  type MemoryDirectory,
  type MemoryFile,
  type MemoryNode,
  Stopped,
} from '../../experiment/checkpoint/memory-files.ts';

/**
 * Point at which a process is stopped: before its operation number `at`. If this operation is a
 * write and `partial` is true, half of its bytes are written.
 */
export interface Stop {
  readonly at: number;
  readonly partial: boolean;
}

/**
 * Files of jobs, in memory. They record what would survive a loss of power. They can simulate that
 * the process stops at any operation: the operation then throws Stopped.
 */
export class MemoryJobFiles implements JobFiles {
  readonly root: MemoryDirectory;
  /** Operations so far that change a file or folder, in order, each as a text. */
  readonly operations: string[] = [];
  /** Error code, such as `ENOSPC`, with which every change fails. Undefined if changes succeed. */
  error: string | undefined;
  readonly #stop: Stop | undefined;

  constructor(root: MemoryDirectory = withFolder('data'), stop?: Stop) {
    this.root = root;
    this.#stop = stop;
  }

  names(directory: string): readonly string[] {
    const node = this.#node(directory);
    return node?.kind === 'directory' ? [...node.entries.keys()] : [];
  }

  read(path: string): string | undefined {
    const node = this.#node(path);
    return node?.kind === 'file' ? Buffer.from(node.bytes).toString('utf8') : undefined;
  }

  makeDirectory(path: string): void {
    const names = namesOf(path);
    for (const end of names.keys()) {
      const made = names.slice(0, end + 1).join('/');
      if (this.#node(made) !== undefined) continue;
      this.#operate('mkdir', made);
      this.#parent(made).entries.set(names[end]!, emptyDirectory());
    }
  }

  write(path: string, text: string): void {
    this.#operate('create', path);
    const file = this.#make(path);
    file.bytes = new Uint8Array();
    this.#add(file, path, text);
    this.#operate('fsync', path);
    file.durable = file.bytes;
  }

  rename(from: string, to: string): void {
    this.#operate('rename', from);
    const source = this.#parent(from);
    const node = source.entries.get(nameOf(from));
    if (node === undefined) throw systemError('ENOENT', from);
    source.entries.delete(nameOf(from));
    this.#parent(to).entries.set(nameOf(to), node);
  }

  syncDirectory(path: string): void {
    this.#operate('fsync', path);
    const node = this.#node(path);
    if (node?.kind !== 'directory') throw systemError('ENOENT', path);
    node.durable = new Map(node.entries);
  }

  append(path: string, text: string): void {
    this.#add(this.#make(path), path, text);
  }

  size(path: string): number {
    const node = this.#node(path);
    return node?.kind === 'file' ? node.bytes.length : 0;
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
    const add = (count: number): void => {
      file.bytes = Buffer.concat([file.bytes, bytes.subarray(0, count)]);
    };
    this.#operate('write', path, () => add(bytes.length >> 1));
    add(bytes.length);
  }

  #make(path: string): MemoryFile {
    const found = this.#node(path);
    if (found?.kind === 'file') return found;
    const file: MemoryFile = { kind: 'file', bytes: new Uint8Array(), durable: new Uint8Array() };
    this.#parent(path).entries.set(nameOf(path), file);
    return file;
  }

  #file(path: string): MemoryFile {
    const node = this.#node(path);
    if (node?.kind === 'file') return node;
    throw systemError('ENOENT', path);
  }

  #parent(path: string): MemoryDirectory {
    const node = this.#node(namesOf(path).slice(0, -1).join('/'));
    if (node?.kind === 'directory') return node;
    throw systemError('ENOENT', path);
  }

  #node(path: string): MemoryNode | undefined {
    if (this.#stop !== undefined && this.operations.length > this.#stop.at) throw new Stopped();
    let node: MemoryNode | undefined = this.root;
    for (const name of namesOf(path)) {
      node = node?.kind === 'directory' ? node.entries.get(name) : undefined;
    }
    return node;
  }

  #operate(what: string, path: string, half?: () => void): void {
    if (this.error !== undefined) throw systemError(this.error, path);
    const number = this.operations.length;
    this.operations.push(`${what} ${path}`);
    if (this.#stop === undefined || number < this.#stop.at) return;
    if (number === this.#stop.at && this.#stop.partial) half?.();
    throw new Stopped();
  }
}

/** Returns a disk with an empty folder `name`, which is still there after a loss of power. */
function withFolder(name: string): MemoryDirectory {
  const entries = new Map([[name, emptyDirectory()]]);
  return { kind: 'directory', entries, durable: new Map(entries) };
}

function namesOf(path: string): string[] {
  return path.split(/[\\/]/).filter((name) => name !== '');
}

function nameOf(path: string): string {
  return namesOf(path).at(-1) ?? '';
}

function systemError(code: string, path: string): NodeJS.ErrnoException {
  return Object.assign(new Error(`${code}: planted, '${path}'`), { code, syscall: 'planted' });
}
