import { spawnSync } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { readRegularFile } from '../../src/files/read.ts';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'pod-read-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

test('a regular file is read whole, also through a link', () => {
  const path = join(folder, 'file');
  writeFileSync(path, 'abc');
  chmodSync(path, 0o640);
  const found = readRegularFile(path, 3);
  expect(found).toMatchObject({ kind: 'contents', bytes: Buffer.from('abc') });
  expect(found.kind === 'contents' && found.mode & 0o777).toBe(0o640);
  symlinkSync(path, join(folder, 'link'));
  expect(readRegularFile(join(folder, 'link'), 3).kind).toBe('contents');
});

test('a file of more bytes than allowed is not read', () => {
  const path = join(folder, 'large');
  writeFileSync(path, 'abcd');
  expect(readRegularFile(path, 3)).toEqual({ kind: 'refused', found: '4 bytes, more than 3' });
});

test('a path that does not exist, or is below a file, is missing', () => {
  writeFileSync(join(folder, 'plain'), '');
  for (const name of ['none', 'plain/below']) {
    expect(readRegularFile(join(folder, name), 9)).toMatchObject({ kind: 'missing' });
  }
});

test('pipes, devices, sockets and folders are refused at once', async () => {
  const pipe = join(folder, 'pipe');
  spawnSync('mkfifo', [pipe]);
  const server = createServer();
  const socket = join(folder, 'socket');
  await new Promise<void>((listening) => server.listen(socket, listening));
  expect(readRegularFile(pipe, 9)).toEqual({ kind: 'refused', found: 'a pipe' });
  expect(readRegularFile('/dev/zero', 9)).toEqual({ kind: 'refused', found: 'a device' });
  expect(readRegularFile(folder, 9)).toEqual({ kind: 'refused', found: 'a folder' });
  expect(readRegularFile(socket, 9)).toMatchObject({ kind: 'refused' });
  server.close();
});
