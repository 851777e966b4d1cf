import { constants } from 'node:fs';
import { lstat, mkdir, open, readdir, rename, rmdir, unlink } from 'node:fs/promises';
import { platform } from 'node:process';
import { isSystemError } from '../../files/system-error.ts';
import type { FileSystem, Kind, NewFile } from './files.ts';

/** File system of this machine, through Node. */
export const nodeFiles: FileSystem = {
  readDirectory: (path) => readdir(path),
  kindOf,
  readFile,
  makeDirectory: async (path) => {
    await mkdir(path);
  },
  createFile,
  rename,
  removeFile: unlink,
  removeDirectory: rmdir,
  syncDirectory,
};

async function kindOf(path: string): Promise<Kind | undefined> {
  try {
    const stats = await lstat(path);
    if (stats.isDirectory()) return 'directory';
    if (stats.isFile()) return 'file';
    return stats.isSymbolicLink() ? 'link' : 'other';
  } catch (error) {
    if (isSystemError(error) && error.code === 'ENOENT') return undefined;
    throw error;
  }
}

/** Largest number of bytes to read at a time. Node cannot read 2 GiB or more at once. */
const readBytesMax = 2 ** 26;

async function readFile(path: string, bytesMax: number): Promise<Uint8Array> {
  // Without O_NONBLOCK, opening a named pipe in place of a file would wait for a writer.
  const file = await open(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0));
  try {
    const stat = await file.stat();
    if (!stat.isFile()) throw systemError('EISDIR', 'not a file', path);
    if (stat.size > bytesMax) throw systemError('EFBIG', `${stat.size} bytes`, path);
    const bytes = new Uint8Array(stat.size);
    let end = 0;
    while (end < bytes.length) {
      const { bytesRead } = await file.read(bytes, end, Math.min(readBytesMax, bytes.length - end));
      if (bytesRead === 0) break;
      end += bytesRead;
    }
    return bytes.subarray(0, end);
  } finally {
    await file.close();
  }
}

async function createFile(path: string): Promise<NewFile> {
  const file = await open(path, 'wx', 0o644);
  return {
    write: async (bytes) => (await file.write(bytes)).bytesWritten,
    sync: () => file.sync(),
    close: () => file.close(),
  };
}

/**
 * Syncs a directory to the disk. Does nothing on Windows, which cannot open directories and makes
 * their entries durable without a sync.
 */
async function syncDirectory(path: string): Promise<void> {
  if (platform === 'win32') return;
  const directory = await open(path, 'r');
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

function systemError(code: string, what: string, path: string): NodeJS.ErrnoException {
  return Object.assign(new Error(`${code}: ${what}, read '${path}'`), { code, syscall: 'read' });
}
