import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type JobFiles, nodeJobFiles } from '../../../cluster/master/job-files.ts';
import { MemoryJobFiles } from './memory-job-files.ts';

let folder = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'pod-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

describe.each<[string, () => { readonly files: JobFiles; readonly at: string }]>([
  ['of this machine', () => ({ files: nodeJobFiles, at: folder })],
  ['in memory', () => ({ files: new MemoryJobFiles(), at: 'data' })],
])('files %s', (_, open) => {
  test('return what was written to them', () => {
    const { files, at } = open();
    const [inner, file] = [join(at, 'a', 'b'), join(at, 'a', 'b', 'c')];
    expect(files.names(inner)).toEqual([]);
    files.makeDirectory(inner);
    files.makeDirectory(inner);
    expect([files.read(file), files.size(file)]).toEqual([undefined, 0]);
    files.append(file, 'ü');
    files.append(file, '1\n23');
    expect([files.read(file), files.size(file)]).toEqual(['ü1\n23', 6]);
    expect(String(files.readAt(file, 3, 2))).toBe('\n2');
    expect(String(files.readAt(file, 3, 100))).toBe('\n23');
    files.truncate(file, 4);
    expect(files.read(file)).toBe('ü1\n');
    files.write(`${file}.new`, 'long');
    files.write(`${file}.new`, 'new');
    expect([...files.names(inner)].sort()).toEqual(['c', 'c.new']);
    files.rename(`${file}.new`, file);
    files.syncDirectory(inner);
    expect(files.names(inner)).toEqual(['c']);
    expect(files.read(file)).toBe('new');
  });

  test('fail with the error codes of a file system', () => {
    const { files, at } = open();
    const missing = expect.objectContaining({ code: 'ENOENT', syscall: expect.any(String) });
    expect(() => files.write(join(at, 'none', 'x'), '')).toThrow(missing);
    expect(() => files.append(join(at, 'none', 'x'), '')).toThrow(missing);
    expect(() => files.readAt(join(at, 'none'), 0, 1)).toThrow(missing);
    expect(() => files.rename(join(at, 'none'), join(at, 'x'))).toThrow(missing);
  });
});

test.skipIf(process.platform === 'win32')('only the owner can read files of jobs', () => {
  nodeJobFiles.makeDirectory(join(folder, 'jobs'));
  nodeJobFiles.write(join(folder, 'jobs', 'a'), 'x');
  nodeJobFiles.append(join(folder, 'jobs', 'b'), 'x');
  for (const name of ['jobs', 'jobs/a', 'jobs/b']) {
    expect(statSync(join(folder, name)).mode & 0o077).toBe(0);
  }
});
