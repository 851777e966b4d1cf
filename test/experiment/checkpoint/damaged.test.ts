import { describe, expect, test } from 'vitest';
import { readCheckpoint } from '../../../src/experiment/checkpoint/checkpoint.ts';
import {
  type Checkpoints,
  openCheckpoints,
} from '../../../src/experiment/checkpoint/checkpoints.ts';
import { PodError } from '../../../src/numerics/error.ts';
import { type MemoryDirectory, type MemoryFile, MemoryFiles } from './memory-files.ts';
import { snapshotOf } from './snapshots.ts';

/** Two checkpoints. The tests damage the newer one, which has about 24 KiB. */
interface Pair {
  readonly files: MemoryFiles;
  readonly checkpoints: Checkpoints;
  readonly newer: MemoryDirectory;
}

const names = ['manifest.json', 'weights.safetensors', 'optimizer.safetensors'] as const;

async function pair(): Promise<Pair> {
  const files = new MemoryFiles();
  const checkpoints = await openCheckpoints('dir', { keep: 2, files });
  await checkpoints.save(snapshotOf(1));
  await checkpoints.save(snapshotOf(2, 4096));
  return { files, checkpoints, newer: files.node('dir/step-0000002') as MemoryDirectory };
}

function fileIn({ newer }: Pair, name: string): MemoryFile {
  return newer.entries.get(name) as MemoryFile;
}

/**
 * Expects that the newer checkpoint is refused, with a reason of one line, and that the older
 * checkpoint loads.
 */
async function expectRefused({ checkpoints }: Pair, reason: RegExp, where: string): Promise<void> {
  const { checkpoint, refused } = await checkpoints.latest();
  expect(checkpoint?.name, where).toBe('step-0000001');
  expect(refused, where).toEqual([{ name: 'step-0000002', reason: expect.stringMatching(reason) }]);
  expect(refused[0]?.reason, where).not.toContain('\n');
}

test('the newer checkpoint loads if it is not damaged', async () => {
  const { checkpoints } = await pair();
  const { checkpoint, refused } = await checkpoints.latest();
  expect(checkpoint?.name).toBe('step-0000002');
  expect(refused).toEqual([]);
});

describe('the newer checkpoint is refused', () => {
  test('with any bit or byte of its manifest flipped', async () => {
    const it = await pair();
    const file = fileIn(it, 'manifest.json');
    const whole = file.bytes;
    for (let place = 0; place < whole.length; place++) {
      for (const flip of [1, 2, 4, 8, 16, 32, 64, 128, 255]) {
        file.bytes = whole.slice();
        file.bytes[place]! ^= flip;
        await refusesAlone(it, `byte ${place} ^ ${flip}`);
      }
    }
  });

  test.each(names)(
    'with %s truncated at every 4 KB or at any byte near its ends, or one byte longer',
    async (name) => {
      const it = await pair();
      const file = fileIn(it, name);
      const whole = file.bytes;
      const { length } = whole;
      const ends = Array.from({ length: 300 }, (_, i) => [i, length - 1 - i]).flat();
      const every4K = Array.from({ length: Math.ceil(length / 4096) }, (_, i) => i * 4096);
      for (const cut of [...every4K, ...ends]) {
        if (cut < 0 || cut >= length) continue;
        file.bytes = whole.slice(0, cut);
        await refusesAlone(it, `cut at ${cut}`);
      }
      file.bytes = whole.slice(0, 4);
      await expectRefused(it, new RegExp(`^${name}: expected`), 'cut at 4');
      file.bytes = new Uint8Array([...whole, 0]);
      await refusesAlone(it, 'one byte longer');
    },
  );

  test.each(names.slice(1))('with a bit of %s flipped in many places', async (name) => {
    const it = await pair();
    const file = fileIn(it, name);
    const whole = file.bytes;
    for (let place = 0; place < whole.length; place += place < 400 ? 1 : 97) {
      file.bytes = whole.slice();
      file.bytes[place]! ^= 1 << (place % 8);
      await refusesAlone(it, `byte ${place}`);
    }
    await expectRefused(it, new RegExp(`^${name}: expected SHA-256 [0-9a-f]+, found`), 'last');
  });

  test.each(names)('without %s', async (name) => {
    const it = await pair();
    it.newer.entries.delete(name);
    await expectRefused(it, new RegExp(`^${name}: could not be read: ENOENT`), name);
  });

  test.each(names)('with a directory for %s', async (name) => {
    const it = await pair();
    it.newer.entries.set(name, { kind: 'directory', entries: new Map(), durable: new Map() });
    await expectRefused(it, new RegExp(`^${name}: could not be read: EISDIR`), name);
  });

  test('with a file of another checkpoint', async () => {
    for (const name of names) {
      const it = await pair();
      const older = it.files.node(`dir/step-0000001/${name}`) as MemoryFile;
      it.newer.entries.set(name, older);
      await expectRefused(it, name === 'manifest.json' ? /found step 1$/ : /expected/, name);
    }
  });

  test('with weights whose digest the pod did not commit', async () => {
    const { files, checkpoints } = await pair();
    await checkpoints.save({ ...snapshotOf(3), weightsDigest: '0123456789abcdef' });
    const reading = readCheckpoint(files, 'dir', 'step-0000003');
    await expect(reading).rejects.toThrow(/^expected weights with digest 0123456789abcdef, found /);
    await expect(reading).rejects.toBeInstanceOf(PodError);
  });
});

test('if all checkpoints are bad, none loads and each is named', async () => {
  const it = await pair();
  (it.files.node('dir/step-0000001') as MemoryDirectory).entries.clear();
  fileIn(it, 'manifest.json').bytes = new Uint8Array();
  const { checkpoint, refused } = await it.checkpoints.latest();
  expect(checkpoint).toBeUndefined();
  expect(refused.map(({ name }) => name)).toEqual(['step-0000002', 'step-0000001']);
});

test('other names in the directory are not taken for checkpoints', async () => {
  const { files, checkpoints } = await pair();
  for (const name of ['step-2', 'step-00000002', 'step-0000002.old', 'notes']) {
    await files.makeDirectory(`dir/${name}`);
  }
  expect(await checkpoints.list()).toEqual(['step-0000002', 'step-0000001']);
});

/**
 * Expects that the newer checkpoint is refused, with a reason of one line. Does not read the older
 * checkpoint, because tests call this function thousands of times.
 */
async function refusesAlone({ files }: Pair, where: string): Promise<void> {
  const reading = readCheckpoint(files, 'dir', 'step-0000002');
  const error = await reading.then(
    () => undefined,
    (it: unknown) => it,
  );
  if (!(error instanceof PodError)) throw error ?? new Error(`${where}: nothing was refused`);
  expect(error.code, where).toBe('bad-data');
  if (/\n/.test(error.message)) throw new Error(`${where}: ${error.message}`);
}
