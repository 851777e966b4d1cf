import { existsSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { makeDirectory } from '../../src/files/make-directory.ts';

let folder = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'make-directory-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

describe('a directory is made', () => {
  test('with its missing parents and their permissions, and again without an effect', () => {
    const path = join(folder, 'a', 'b', 'c');
    for (let i = 0; i < 2; i++) makeDirectory(path, 0o700);
    for (const it of ['a', 'a/b', 'a/b/c']) {
      expect(statSync(join(folder, it)).mode & 0o777).toBe(0o700);
    }
  });

  test('but not over a file, or below one', () => {
    const file = join(folder, 'file');
    writeFileSync(file, '');
    expect(() => makeDirectory(file)).toThrow('EEXIST');
    expect(() => makeDirectory(join(file, 'x', 'y'))).toThrow(/ENOTDIR|EEXIST/);
  });

  test.runIf(process.platform === 'linux')('but not where the parent takes none', () => {
    expect(() => makeDirectory('/proc/none')).toThrow('ENOENT');
    expect(() => makeDirectory('/proc/none/deeper')).toThrow('ENOENT');
    expect(existsSync('/proc/none')).toBe(false);
  });

  test('also through a symbolic link to a directory', () => {
    mkdirSync(join(folder, 'real'));
    const name = join(folder, 'real', '..', 'real', 'x');
    makeDirectory(name);
    expect(existsSync(join(folder, 'real', 'x'))).toBe(true);
  });
});
