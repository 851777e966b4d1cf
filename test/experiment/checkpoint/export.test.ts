import { pid } from 'node:process';
import { expect, test } from 'vitest';
import {
  listCheckpoints,
  openCheckpoints,
} from '../../../src/experiment/checkpoint/checkpoints.ts';
import { exportNewest } from '../../../src/experiment/checkpoint/export.ts';
import { type Fault, MemoryFiles } from './memory-files.ts';
import { snapshotOf } from './snapshots.ts';

const target = 'w.safetensors';
/**
 * Names of two files of a user. An export writes temporary files, called drafts, and must not take
 * the user's files for drafts. The first name looks like that of a draft of this version, the
 * second like that of a draft of older versions.
 */
const users = [`.partial-${target}`, `.${target}.${pid}.0.partial`];

test('an export leaves files of the user with names like its drafts', async () => {
  const files = await prepared();
  await exported(files);
  expect([...(await files.readDirectory(''))].sort()).toEqual([...users, 'ck', target].sort());
  for (const name of users) expect([...(await files.readFile(name, 9))]).toEqual([7]);
});

test('an export that fails at any operation leaves no draft', async () => {
  const undisturbed = await prepared();
  await exported(undisturbed);
  const count = undisturbed.operations.length;
  expect(count).toBeGreaterThan(5);
  for (const code of ['ENOSPC', 'EFBIG', 'EIO']) {
    for (let at = 0; at < count; at++) {
      const files = await prepared();
      const fault: Fault = { kind: 'error', at, code };
      files.fault = fault;
      await expect(exported(files), files.operations[at]).rejects.toMatchObject({ code: 'io' });
      const names = (await files.readDirectory('')).filter((name) => name !== target);
      expect(names.sort(), files.operations[at]).toEqual([...users, 'ck'].sort());
    }
  }
});

/** Returns a file system in memory with one checkpoint and the files that `users` names. */
async function prepared(): Promise<MemoryFiles> {
  const files = new MemoryFiles();
  const checkpoints = await openCheckpoints('ck', { keep: 1, files });
  await checkpoints.save(snapshotOf(1));
  for (const name of users) {
    const file = await files.createFile(name);
    await file.write(Uint8Array.of(7));
  }
  files.operations.length = 0;
  return files;
}

function exported(files: MemoryFiles): Promise<unknown> {
  return exportNewest('ck', () => listCheckpoints('ck', files), target, files);
}
