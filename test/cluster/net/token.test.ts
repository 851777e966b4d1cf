import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { readToken } from '../../../cluster/net/token.ts';

let folder = '';
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'pod-token-'));
  writeFileSync(join(folder, 'large'), '');
  truncateSync(join(folder, 'large'), 2 ** 33);
  mkdirSync(join(folder, 'folder'));
  expect(spawnSync('mkfifo', [join(folder, 'pipe')]).status).toBe(0);
});
afterAll(() => rmSync(folder, { recursive: true }));

test.skipIf(process.platform === 'win32').each([
  ['/dev/zero', 'bad-config', 'a device'],
  ['pipe', 'bad-config', 'a pipe'],
  ['folder', 'bad-config', 'a folder'],
  ['large', 'bad-config', '8589934592 bytes, more than 4096'],
  ['nowhere', 'io', 'nothing there'],
])('a token in %s is refused at once', (name, code, found) => {
  const path = name.startsWith('/') ? name : join(folder, name);
  const read = (): unknown => readToken({ POD_TOKEN_FILE: path });
  expect(read).toThrow(expect.objectContaining({ code }));
  expect(read).toThrow(
    `token file ${path}: expected a regular file of at most 4096 bytes, found ${found}`,
  );
});
