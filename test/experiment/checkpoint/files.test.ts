import { spawnSync } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { FileSystem } from '../../../src/experiment/checkpoint/files.ts';
import { nodeFiles } from '../../../src/experiment/checkpoint/node-files.ts';
import { isSystemError } from '../../../src/files/system-error.ts';
import { MemoryFiles } from './memory-files.ts';

let directory = '';
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'pod-'));
});
afterAll(() => rm(directory, { recursive: true }));

/** The in-memory model of files, on which other tests rely, must behave like the real files. */
describe.each<[string, FileSystem, () => string]>([
  ['this machine', nodeFiles, () => directory],
  ['the model', new MemoryFiles(), () => ''],
])('%s', (_, files, root) => {
  const path = (name: string): string => join(root(), name);

  test('a file is read as written, also after its directory was renamed', async () => {
    await files.makeDirectory(path('a'));
    await write('a/file', [1, 2, 3]);
    expect([...(await files.readFile(path('a/file'), 3))]).toEqual([1, 2, 3]);
    await files.rename(path('a'), path('b'));
    expect([...(await files.readFile(path('b/file'), 3))]).toEqual([1, 2, 3]);
    expect(await files.readDirectory(path('b'))).toEqual(['file']);
    expect(await files.kindOf(path('b'))).toBe('directory');
    expect(await files.kindOf(path('b/file'))).toBe('file');
    expect(await files.kindOf(path('none'))).toBeUndefined();
    await files.syncDirectory(path('b'));
    expect(await files.readDirectory(root() || '.')).toEqual(['b']);
  });

  test('an impossible operation fails with the error code of the system', async () => {
    await files.makeDirectory(path('empty'));
    const codes: [string, () => Promise<unknown>][] = [
      ['EEXIST', () => files.makeDirectory(path('b'))],
      ['EEXIST', () => files.makeDirectory(path('b/file'))],
      ['ENOENT', () => files.makeDirectory(path('none/b'))],
      ['EEXIST', () => files.createFile(path('b/file'))],
      ['ENOENT', () => files.createFile(path('none/file'))],
      ['ENOENT', () => files.readFile(path('none'), 9)],
      ['EISDIR', () => files.readFile(path('b'), 9)],
      ['EFBIG', () => files.readFile(path('b/file'), 2)],
      ['ENOENT', () => files.readDirectory(path('none'))],
      ['ENOTDIR', () => files.readDirectory(path('b/file'))],
      ['ENOTEMPTY', () => files.rename(path('empty'), path('b'))],
      ['ENOENT', () => files.rename(path('none'), path('c'))],
      ['ENOENT', () => files.removeFile(path('none'))],
      ['ENOTEMPTY', () => files.removeDirectory(path('b'))],
      ['ENOENT', () => files.syncDirectory(path('none'))],
    ];
    for (const [code, operation] of codes) {
      const error: unknown = await operation().then(
        () => undefined,
        (it: unknown) => it,
      );
      expect(isSystemError(error), `${operation}`).toBe(true);
      expect(error, `${operation}`).toMatchObject({ code });
    }
  });

  test('removed files and directories are gone', async () => {
    await files.removeFile(path('b/file'));
    await files.removeDirectory(path('b'));
    await files.removeDirectory(path('empty'));
    expect(await files.readDirectory(root() || '.')).toEqual([]);
  });

  async function write(name: string, bytes: readonly number[]): Promise<void> {
    const file = await files.createFile(path(name));
    for (const byte of bytes) expect(await file.write(Uint8Array.of(byte))).toBe(1);
    await file.sync();
    await file.close();
  }
});

test.skipIf(process.platform === 'win32')(
  'a pipe in the place of a file is refused without waiting',
  async () => {
    const pipe = join(directory, 'pipe');
    expect(spawnSync('mkfifo', [pipe]).status).toBe(0);
    await expect(nodeFiles.readFile(pipe, 9)).rejects.toMatchObject({ code: 'EISDIR' });
  },
);
