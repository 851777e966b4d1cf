import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { removeSocketFiles, socketFile } from '../../../cluster/process/socket-file.ts';

const { TMPDIR } = process.env;
let folder = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'pod-sockets-'));
  process.env['TMPDIR'] = folder;
});
afterEach(() => {
  if (TMPDIR === undefined) delete process.env['TMPDIR'];
  else process.env['TMPDIR'] = TMPDIR;
  rmSync(folder, { recursive: true });
});

test('socket files of killed processes are removed, and no other files', () => {
  const own = socketFile() ?? '';
  expect(dirname(own)).toBe(folder);
  const another = join(folder, basename(own).replace(`${process.pid}`, `${process.pid}1`));
  for (const path of [own, another, join(folder, 'pod-of-somebody.sock')]) writeFileSync(path, '');
  removeSocketFiles([process.pid]);
  expect([existsSync(own), existsSync(another)]).toEqual([false, true]);
  expect(existsSync(join(folder, 'pod-of-somebody.sock'))).toBe(true);
});

test('a socket path is never too long, and its folder exists', () => {
  const long = join(folder, 'a'.repeat(100));
  process.env['TMPDIR'] = long;
  expect(existsSync(dirname(socketFile() ?? '?'))).toBe(true);
  mkdirSync(long);
  expect(socketFile()?.length).toBeLessThan(108);
});

test.each(['/proc', '/dev/null', '/nonexistent', '/sys'])(
  'another folder is used if TMPDIR is %s, which takes no sockets',
  (it) => {
    process.env['TMPDIR'] = it;
    expect(socketFile()).toMatch(/^\/(tmp|run|dev\/shm)\//);
    expect(() => removeSocketFiles([1])).not.toThrow();
  },
);
