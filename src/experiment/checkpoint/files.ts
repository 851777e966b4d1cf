/**
 * The file system operations that checkpoints need. The interface is small, so that tests can make
 * every operation fail. A method that fails rejects with an error that has a `code` such as
 * `ENOSPC`, like the errors of Node.
 */
export interface FileSystem {
  /** Returns the names in a directory, in no particular order. */
  readDirectory(path: string): Promise<readonly string[]>;
  /**
   * Returns the kind of the entry at a path, without following links; undefined if the path does
   * not exist.
   */
  kindOf(path: string): Promise<Kind | undefined>;
  /**
   * Returns the content of a file. Rejects with `EFBIG`, before reading, if the file has more than
   * `bytesMax` bytes.
   */
  readFile(path: string, bytesMax: number): Promise<Uint8Array>;
  /** Creates one directory. Rejects if its parent does not exist, or if the path exists already. */
  makeDirectory(path: string): Promise<void>;
  /** Creates a file. Rejects if the path exists already. */
  createFile(path: string): Promise<NewFile>;
  /** Renames atomically: other processes see either the old state or the new state. */
  rename(from: string, to: string): Promise<void>;
  removeFile(path: string): Promise<void>;
  /** Removes an empty directory. */
  removeDirectory(path: string): Promise<void>;
  /** Syncs the entries of a directory to the disk, so that the entries survive a loss of power. */
  syncDirectory(path: string): Promise<void>;
}

export type Kind = 'directory' | 'file' | 'link' | 'other';

export interface NewFile {
  /**
   * Appends the first bytes of `bytes` to the file: at least one byte, but not always all. Returns
   * the number of bytes written.
   */
  write(bytes: Uint8Array): Promise<number>;
  /** Syncs the content to the disk, so that the content survives a loss of power. */
  sync(): Promise<void>;
  close(): Promise<void>;
}
