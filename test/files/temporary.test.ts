import { existsSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { expect, test } from 'vitest';
import { withTemporaryFolder } from '../../src/files/temporary.ts';

test('a temporary folder exists while the work goes on, and is removed after it', async () => {
  const listeners = process.listenerCount('exit');
  const path = await withTemporaryFolder('pod-temporary-', async (folder) => {
    writeFileSync(join(folder, 'file'), '');
    return folder;
  });
  expect(basename(path)).toMatch(/^pod-temporary-/);
  expect(existsSync(path)).toBe(false);
  expect(process.listenerCount('exit')).toBe(listeners);
});

test('a temporary folder is removed also if the work throws an error', async () => {
  let path = '';
  const work = withTemporaryFolder('pod-temporary-', (folder) => {
    path = folder;
    return Promise.reject(new Error('no'));
  });
  await expect(work).rejects.toThrow('no');
  expect(path).not.toBe('');
  expect(existsSync(path)).toBe(false);
});
