import { constants } from 'node:fs';
import { lstat, mkdir, open, readdir, rename, rmdir, unlink } from 'node:fs/promises';
import { platform } from 'node:process';
import { isSystemError } from '../../files/system-error.ts';
import type { FileSystem, Kind, NewFile } from './files.ts';

/** The files of this machine. */
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

/** One read takes no more than this: Node reads less than 2 GiB at a time. */
const readBytesMax = 2 ** 26;

async function readFile(path: string, bytesMax: number): Promise<Uint8Array> {
  // Without O_NONBLOCK a pipe in the place of a file would be waited for.
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

/** Windows keeps directories by itself, and opens none. */
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
