import { spawnSync } from 'node:child_process';
import {
  link,
  lstat,
  mkdtemp,
  readdir,
  readFile,
  rm,
  stat,
  symlink,
  truncate,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command } from 'commander';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { addCheckpoint } from '../../src/cli/checkpoint.ts';
import { type RawOptions, trainOptions } from '../../src/cli/options.ts';
import { openCheckpoints } from '../../src/experiment/checkpoint/checkpoints.ts';
import { decodeSafetensors } from '../../src/experiment/checkpoint/safetensors.ts';
import { PodError } from '../../src/numerics/error.ts';
import { snapshotOf } from '../experiment/checkpoint/snapshots.ts';

let directory = '';
let output = '';
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'pod-'));
  output = '';
  for (const stream of [process.stdout, process.stderr]) {
    vi.spyOn(stream, 'write').mockImplementation((text) => {
      output += text;
      return true;
    });
  }
});
afterEach(async () => {
  vi.restoreAllMocks();
  await rm(directory, { recursive: true });
});

/** Saves checkpoints after the steps 1, 2 and 3, and truncates the weights of the newest. */
async function threeOneBad(): Promise<void> {
  const checkpoints = await openCheckpoints(directory, { keep: 3 });
  for (const step of [1, 2, 3]) await checkpoints.save(snapshotOf(step));
  await truncate(join(directory, 'step-0000003', 'weights.safetensors'), 100);
}

async function pod(...args: string[]): Promise<void> {
  const program = new Command('pod').exitOverride().configureOutput({ outputError: () => {} });
  addCheckpoint(program);
  await program.parseAsync(['checkpoint', ...args], { from: 'user' });
}

test('ls lists each checkpoint with its model, data, loss, size and digest, newest first', async () => {
  await threeOneBad();
  await truncate(join(directory, 'step-0000001', 'manifest.json'), 0);
  await pod('ls', directory);
  const lines = output.trimEnd().split('\n');
  expect(lines.map((line) => line.split(/ {3,}/)[0])).toEqual([
    ...['checkpoint', 'step-0000003', 'step-0000002', 'step-0000001'],
  ]);
  expect(lines[2]).toMatch(/mlp +digits:200 +0\.5000 +[\d.]+ \w*B +[0-9a-f]{16}$/);
  expect(lines[3]).toMatch(/bad: manifest\.json: expected JSON, found: /);
});

test('verify prints a table and fails if a checkpoint is bad', async () => {
  await threeOneBad();
  const verifying = pod('verify', directory);
  await expect(verifying).rejects.toMatchObject({ code: 'bad-data', exitCode: 2 });
  await expect(verifying).rejects.toThrow(/: 1 of 3 checkpoints are bad$/);
  const [bad, ...good] = output.trimEnd().split('\n');
  expect(bad).toMatch(/^bad +step-0000003 +weights\.safetensors: expected \d+ bytes, found 100$/);
  expect(good.map((line) => line.slice(0, 18))).toEqual([
    'ok    step-0000002',
    'ok    step-0000001',
  ]);

  output = '';
  await rm(join(directory, 'step-0000003'), { recursive: true });
  await pod('verify', directory);
  expect(output.match(/^ok/gm)).toHaveLength(2);
});

describe('pod checkpoint export', () => {
  test('writes the weights of the newest good checkpoint to one file that names model, data and step', async () => {
    await threeOneBad();
    const target = join(directory, 'out.safetensors');
    // The second export replaces the file of the first.
    for (let time = 0; time < 2; time++) {
      await pod('export', directory, '--output', target);
      const { tensors, metadata } = decodeSafetensors(await readFile(target));
      const { weightsDigest, weights, tensors: all } = snapshotOf(2);
      expect(metadata).toEqual({ model: 'mlp', data: 'digits:200', step: '2', weightsDigest });
      expect(tensors.map(({ name }) => name)).toEqual(['dense/kernel', 'dense/bias']);
      for (const [i, { bytes }] of all.slice(0, weights).entries()) {
        expect(Buffer.compare(tensors[i]!.bytes, bytes)).toBe(0);
      }
    }
    expect(output).toMatch(/refused step-0000003: weights.safetensors: expected/);
    expect(output).toMatch(/out\.safetensors: the weights of step-0000002, \d+ B/);
    expect((await readdir(directory)).filter((name) => name.startsWith('.'))).toEqual([]);
  });

  test('writes the weights of a given step, or refuses in one line', async () => {
    await threeOneBad();
    const target = join(directory, 'out.safetensors');
    await pod('export', directory, '--output', target, '--step', '1');
    expect(decodeSafetensors(await readFile(target)).metadata).toMatchObject({ step: '1' });
    const refused = async (step: string, to: string): Promise<PodError> => {
      const error = await pod('export', directory, '--output', to, '--step', step).catch(
        (it) => it,
      );
      expect(error).toBeInstanceOf(PodError);
      expect(error.message).not.toContain('\n');
      return error;
    };
    expect((await refused('3', target)).message).toMatch(/found only bad ones$/);
    expect((await refused('7', target)).message).toMatch(/--step: expected one of step-0000003/);
    const nowhere = join(directory, 'none', 'out.safetensors');
    expect(await refused('1', nowhere)).toMatchObject({ code: 'bad-flag', exitCode: 2 });
  });
});

describe('an export is refused before it reads or writes anything', () => {
  const at = (...names: string[]): string => join(directory, ...names);
  const refusal = (...flags: string[]): Promise<unknown> =>
    pod('export', directory, ...flags).then(
      () => undefined,
      (error: unknown) => error,
    );

  test('if its output is a file or folder of checkpoints, also through a link', async () => {
    await threeOneBad();
    const elsewhere = await mkdtemp(join(tmpdir(), 'pod-'));
    await symlink(at('step-0000002', 'manifest.json'), at('soft'));
    await symlink(directory, join(elsewhere, 'folder'));
    await link(at('step-0000002', 'weights.safetensors'), join(elsewhere, 'hard'));
    const before = await contents();
    for (const output of [
      at('step-0000003', 'manifest.json'),
      at('step-0000002', 'weights.safetensors'),
      at('step-0000002', 'optimizer.safetensors'),
      at('step-0000002', 'new'),
      at('step-0000009'),
      at('step-0000003.1'),
      at('.lock'),
      at('soft'),
      join(elsewhere, 'folder', 'step-0000001', 'manifest.json'),
      join(elsewhere, 'hard'),
    ]) {
      expect(await refusal('--output', output), output).toMatchObject({
        code: 'bad-flag',
        exitCode: 2,
        message: expect.stringMatching(
          /^--output: expected a path that is not part of the checkpoints in .*, found .*; name another file$/,
        ),
      });
    }
    expect(await contents()).toEqual(before);
    expect(output).toBe('');
    await pod('export', directory, '--output', at('step-2.safetensors'));
    await rm(elsewhere, { recursive: true });
  });

  test('with --output given twice, or a --step that is not in decimal digits', async () => {
    await threeOneBad();
    const target = at('out.safetensors');
    for (const flags of [
      ['--output', at('other')],
      ...['0x3', '2e0', '+2', '2.0', ' 2', '', '-2'].map((it) => [`--step=${it}`]),
      ['--step', '2', '--step', '1'],
    ]) {
      expect(await refusal('--output', target, ...flags), `${flags}`).toMatchObject({
        code: 'bad-flag',
        message: expect.stringMatching(/^--(output|step): (given twice|expected a whole number)/),
      });
    }
    expect(await readdir(directory)).not.toContain('out.safetensors');
  });

  /** Returns the path and the content of every file in the folder. */
  async function contents(): Promise<readonly string[]> {
    const all = await readdir(directory, { recursive: true, withFileTypes: true });
    const files = all.filter((it) => it.isFile()).map((it) => join(it.parentPath, it.name));
    return Promise.all(files.sort().map(async (it) => `${it}: ${await readFile(it, 'latin1')}`));
  }
});

test('a directory without checkpoints and a missing directory are refused in one line', async () => {
  for (const command of ['ls', 'verify']) {
    await expect(pod(command, directory)).rejects.toThrow(/: expected checkpoints such as step-/);
    await expect(pod(command, join(directory, 'none'))).rejects.toMatchObject({ code: 'io' });
  }
});

describe('checkpoint flags of pod train', () => {
  test('a flag that is not given has its default', () => {
    expect(trainOptions({}).checkpoint).toBeUndefined();
    expect(trainOptions({ checkpoint: 'dir' }).checkpoint).toEqual({
      ...{ directory: 'dir', every: 100, keep: 3, resume: false },
    });
    const flags = { checkpoint: 'dir', every: '5', keep: '1', resume: true };
    expect(trainOptions(flags).checkpoint).toEqual({
      ...{ directory: 'dir', every: 5, keep: 1, resume: true },
    });
  });

  test.each<[RawOptions, RegExp]>([
    [{ resume: true }, /^--resume: expected --checkpoint DIR too, found none$/],
    [{ every: '5' }, /^--every: expected --checkpoint DIR too, found none$/],
    [{ keep: '5' }, /^--keep: expected --checkpoint DIR too, found none$/],
    [{ checkpoint: 'dir', every: '0' }, /^--every: expected at least 1/],
    [{ checkpoint: 'dir', keep: 'all' }, /^--keep: expected a whole number/],
    [{ checkpoint: '' }, /^--checkpoint: expected some text/],
  ])('%j is refused', (flags, message) => {
    expect(() => trainOptions(flags)).toThrow(
      expect.objectContaining({ code: 'bad-flag', message: expect.stringMatching(message) }),
    );
  });

  test.skipIf(process.platform === 'win32')(
    'an export refuses to replace a device, a pipe or a folder, and follows a link',
    async () => {
      await threeOneBad();
      const at = (name: string): string => join(directory, name);
      expect(spawnSync('mkfifo', [at('pipe')]).status).toBe(0);
      await symlink('/dev/null', at('to-null'));
      const before = await stat('/dev/null');
      for (const [target, found] of [
        ['/dev/null', 'a device'],
        [at('to-null'), 'a device'],
        [at('pipe'), 'a pipe'],
        [directory, `the folder ${directory}`],
      ] as const) {
        await expect(pod('export', directory, '--output', target)).rejects.toMatchObject({
          code: 'bad-flag',
          message: expect.stringContaining(`found ${found} (`),
        });
      }
      expect(await stat('/dev/null')).toMatchObject({ ino: before.ino, rdev: before.rdev });
      expect((await lstat(at('pipe'))).isFIFO()).toBe(true);
      await writeFile(at('real'), 'old');
      await symlink(at('real'), at('link'));
      await pod('export', directory, '--output', at('link'));
      expect((await lstat(at('link'))).isSymbolicLink()).toBe(true);
      expect(decodeSafetensors(await readFile(at('real'))).metadata).toMatchObject({ step: '2' });
    },
  );
});
