/**
 * The part of a file system that checkpoints need: small, so that tests can stop it at every
 * operation. All reject with what Node rejects with, an error with a `code` such as `ENOSPC`.
 */
export interface FileSystem {
  /** Names in a directory, in no order. */
  readDirectory(path: string): Promise<readonly string[]>;
  /** What lies at a path, links not followed; undefined when nothing does. */
  kindOf(path: string): Promise<Kind | undefined>;
  /** All of a file; one of more than `bytesMax` is rejected with `EFBIG` before it is read. */
  readFile(path: string, bytesMax: number): Promise<Uint8Array>;
  /** Makes one directory; its parent must be there, and it must not. */
  makeDirectory(path: string): Promise<void>;
  /** Makes a file that must not be there. */
  createFile(path: string): Promise<NewFile>;
  /** In one motion: whoever looks sees the old state or the new one. */
  rename(from: string, to: string): Promise<void>;
  removeFile(path: string): Promise<void>;
  /** Removes an empty directory. */
  removeDirectory(path: string): Promise<void>;
  /** What the directory lists outlasts a loss of power. */
  syncDirectory(path: string): Promise<void>;
}

export type Kind = 'directory' | 'file' | 'link' | 'other';

export interface NewFile {
  /** Appends the first bytes of `bytes`, at least one; returns how many. */
  write(bytes: Uint8Array): Promise<number>;
  /** What was written outlasts a loss of power. */
  sync(): Promise<void>;
  close(): Promise<void>;
}
