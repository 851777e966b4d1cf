import {
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rename,
  rm,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { openCheckpoints } from '../../../src/experiment/checkpoint/checkpoints.ts';
import { snapshotOf } from './snapshots.ts';

let root = '';
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'pod-'));
  await mkdir(at('ck'));
  await mkdir(at('photos'));
  await writeFile(at('photos', '1.jpg'), 'a photo');
});
afterEach(() => rm(root, { recursive: true }));

test('clearing up follows no link, and removes only what a save could have made', async () => {
  await symlink('../photos', at('ck', '.deleted-old'));
  await symlink('../photos', at('ck', '.deleted-step-0000001'));
  await mkdir(at('ck', '.partial-step-0000002'));
  await symlink('../../photos/1.jpg', at('ck', '.partial-step-0000002', 'manifest.json'));
  await mkdir(at('ck', '.deleted-step-0000002', 'weights.safetensors'), { recursive: true });
  await file('ck', '.partial-mine', 'manifest.json');
  await file('ck', '.partial-step-3', 'manifest.json');
  await file('ck', '.deleted-step-0000003', 'notes.txt');
  await file('ck', '.replaced-step-0000003', 'notes.txt');
  await file('ck', '.partial-probe', 'notes.txt');
  await writeFile(at('ck', '.partial-step-0000004'), 'a file');
  await writeFile(at('ck', '.deleted-notes'), 'a file');
  const before = await names();
  await save(5);
  expect((await names()).filter((it) => !it.startsWith('ck/step-0000005'))).toEqual(before);
  expect(await readFile(at('photos', '1.jpg'), 'utf8')).toBe('a photo');
});

test('clearing up removes what interrupted saves and deletions leave', async () => {
  await file('ck', '.partial-step-0000002', 'weights.safetensors');
  await file('ck', '.deleted-step-0000001.1', 'manifest.json');
  await mkdir(at('ck', '.partial-probe'));
  await save(5);
  expect(await readdir(at('ck'))).toEqual(['step-0000005']);
});

test('a save whose name is taken by a foreign file fails in one line, and the next save works', async () => {
  for (const [kind, make] of [
    ['file', (path: string) => writeFile(path, 'mine')],
    ['link', (path: string) => symlink('../photos', path)],
    ['directory', (path: string) => file(path, 'notes.txt')],
  ] as const) {
    const partial = at('ck', '.partial-step-0000007');
    await make(partial.slice(kind === 'directory' ? root.length + 1 : 0));
    const before = await names();
    await expect(save(7)).rejects.toMatchObject({
      code: 'io',
      message: `${partial}: expected a name that is free, found a ${kind} that pod did not make; move it away`,
    });
    expect(await names()).toEqual(before);
    await rm(partial, { recursive: true });
  }
  await save(7);
  expect(await readdir(at('ck'))).toEqual(['step-0000007']);
});

test('old checkpoints that are links or contain foreign files are not deleted', async () => {
  await save(1);
  await save(2);
  await rename(at('ck', 'step-0000001'), at('moved'));
  await symlink('../moved', at('ck', 'step-0000001'));
  await writeFile(at('ck', 'step-0000002', 'notes.txt'), 'mine');
  await save(3, 1);
  await save(4, 1);
  expect((await readdir(at('ck'))).sort()).toEqual(
    ['step-0000001', 'step-0000002', 'step-0000004'].sort(),
  );
  expect(await readdir(at('moved'))).toHaveLength(3);
});

function at(...path: readonly string[]): string {
  return join(root, ...path);
}

/** Makes a file of a user together with its folder. */
async function file(...path: readonly string[]): Promise<void> {
  await mkdir(at(...path.slice(0, -1)), { recursive: true });
  await writeFile(at(...path), 'of a user');
}

/** Returns the path of each file, folder and link below `root`. Does not follow links. */
async function names(): Promise<readonly string[]> {
  const all = await readdir(root, { recursive: true, withFileTypes: true });
  return all.map((it) => join(it.parentPath, it.name).slice(root.length + 1)).sort();
}

/** Opens the folder `ck` as a run does, saves the checkpoint of `step` and closes the folder. */
async function save(step: number, keep = 9): Promise<void> {
  const checkpoints = await openCheckpoints(at('ck'), { keep });
  await checkpoints.save(snapshotOf(step));
  checkpoints.close();
}
