import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, describe, expect, test } from 'vitest';
import { mnist } from '../../src/data/mnist.ts';
import { PodError } from '../../src/numerics/error.ts';

const images = 't10k-images-idx3-ubyte';
const labels = 't10k-labels-idx1-ubyte';

const base = mkdtempSync(join(tmpdir(), 'idx-'));
afterAll(() => rmSync(base, { recursive: true }));

describe('a wrong file of a data set is refused with advice', () => {
  test.each<[string, (path: string) => void, RegExp]>([
    ['a pipe', (path) => spawnSync('mkfifo', [path]), /found a pipe; put a regular file there$/],
    ['a device', (path) => symlinkSync('/dev/zero', path), /found a device; put a regular file/],
    ['a folder', (path) => mkdirSync(path), /found a folder; put a regular file there$/],
    [
      'a link to nothing',
      (path) => symlinkSync('nowhere', path),
      /found a link that leads nowhere/,
    ],
    ['a link to itself', (path) => symlinkSync(path, path), /found ELOOP/],
    [
      'an empty file',
      (path) => writeFileSync(path, ''),
      /found an empty file; fetch the file again$/,
    ],
    [
      '8 GB of nothing',
      (path) => sparse(path, 2 ** 33),
      /found 8589934592 bytes, more than 536870/,
    ],
    [
      'a header that demands 3 TB',
      (path) => writeFileSync(path, Buffer.concat([header(0xffff_ffff), Buffer.alloc(784)])),
      /at most 536870912 bytes, found a header for 4294967295 items/,
    ],
    [
      'gzip without .gz',
      (path) => writeFileSync(path, gzipSync(imageFile(4))),
      /add \.gz to its name/,
    ],
  ])('%s', (_, put, message) => {
    const dir = folder();
    rmSync(join(dir, images));
    put(join(dir, images));
    expect(refusal(dir)).toMatch(message);
  });

  test('a .gz file that is not gzip is refused with advice to rename or fetch it', () => {
    const dir = folder();
    renameSync(join(dir, images), join(dir, `${images}.gz`));
    expect(refusal(dir)).toMatch(/found a file that is not compressed; remove \.gz from its name$/);
    writeFileSync(join(dir, `${images}.gz`), '<html>not found</html>');
    expect(refusal(dir)).toMatch(/expected gzip, found the bytes \[60 104 116 109\]; fetch/);
  });

  test('a gzip file with more bytes than its header demands is refused before it is unpacked', () => {
    const dir = folder();
    rmSync(join(dir, images));
    const bomb = Buffer.concat([header(4), Buffer.alloc(2 ** 26)]);
    writeFileSync(join(dir, `${images}.gz`), gzipSync(bomb));
    expect(refusal(dir)).toMatch(/expected gzip with at most 3152 bytes of content, found more/);
  });

  test('a wrong folder', () => {
    const dir = folder();
    expect(refusal(join(dir, 'none'))).toMatch(/found nothing there; name another folder$/);
    expect(refusal(join(dir, labels))).toMatch(/found a file; name the folder of that file$/);
    expect(refusal('~/no such folder')).toMatch(/does not expand ~ here: write \$HOME$/);
    expect(refusal(`${dir}/${'x'.repeat(300)}`)).toMatch(/found ENAMETOOLONG/);
    expect(refusal(`${dir}/a\n\u001b[2Jb`)).toMatch(/a\\n\\u001b\[2Jb": expected/);
  });

  test.skipIf(process.getuid?.() === 0)('a file that this user may not read', () => {
    const dir = folder();
    chmodSync(join(dir, images), 0);
    expect(refusal(dir)).toMatch(
      /found a folder that this user may not read; change its permissions \(chmod\)$/,
    );
  });
});

describe('file names in the spelling of other sources are read', () => {
  test.each([
    't10k-images.idx3-ubyte',
    'T10K-IMAGES-IDX3-UBYTE',
    't10k-images.idx3-ubyte.gz',
    't10k-images-idx3-ubyte.GZ',
  ])('%s', (name) => {
    const dir = folder();
    rmSync(join(dir, images));
    const bytes = imageFile(4);
    writeFileSync(join(dir, name), /gz$/i.test(name) ? gzipSync(bytes) : bytes);
    const { train, notes } = mnist(dir);
    expect(train.digest()).toBe(mnist(folder()).train.digest());
    expect(notes).toEqual([]);
  });

  test('the plain file is read if there are several, and a note says so', () => {
    const dir = folder();
    writeFileSync(join(dir, `${images}.gz`), 'never read');
    writeFileSync(join(dir, 't10k-images.idx3-ubyte'), 'never read');
    expect(mnist(dir).notes).toEqual([
      `${dir}: ${images} is read; ${images}.gz, t10k-images.idx3-ubyte in the same folder is ignored`,
    ]);
  });
});

function refusal(dir: string): string {
  try {
    mnist(dir);
  } catch (error) {
    if (!(error instanceof PodError)) throw error;
    expect(error.code).toBe('bad-data');
    expect(error.message).toMatch(/^[^\n]+: expected [^\n]+, found [^\n]+; [^\n]+$/);
    return error.message;
  }
  throw new Error('the files were taken');
}

function folder(): string {
  const dir = mkdtempSync(join(base, 'case-'));
  writeFileSync(join(dir, images), imageFile(4));
  writeFileSync(join(dir, labels), Buffer.from([0, 0, 8, 1, 0, 0, 0, 4, 0, 1, 2, 3]));
  return dir;
}

function sparse(path: string, bytes: number): void {
  writeFileSync(path, '');
  truncateSync(path, bytes);
}

function header(count: number): Buffer {
  const bytes = Buffer.from([0, 0, 8, 3, 0, 0, 0, 0, 0, 0, 0, 28, 0, 0, 0, 28]);
  bytes.writeUInt32BE(count, 4);
  return bytes;
}

function imageFile(count: number): Buffer {
  return Buffer.concat([header(count), Buffer.alloc(count * 784, 7)]);
}
