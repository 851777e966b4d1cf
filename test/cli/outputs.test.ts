import {
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { trainOptions } from '../../src/cli/options.ts';
import { PodError } from '../../src/numerics/error.ts';
import { shell } from './run-pod.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'pod-outputs-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

const tiny = '$pod train --model mlp --tpus 1 --steps 3 --global-batch 8 --evaluate 8';

describe('an impossible output is refused before the run, and no file changes', () => {
  test.each<[string, Readonly<Record<string, string>>, RegExp]>([
    [
      'one file twice',
      { log: 'new', report: 'new' },
      /expected a file other than that of --report/,
    ],
    [
      'one file by a hard link',
      { log: 'old', report: 'hard' },
      /a file other than that of --report/,
    ],
    ['one file by a link', { log: 'old', report: 'soft' }, /a file other than that of --report/],
    ['a link to what is not there yet', { log: 'later', report: 'soon' }, /a file other than/],
    [
      'the settings',
      { report: 'run.yaml', config: 'run.yaml' },
      /a file that --config does not read/,
    ],
    [
      'the data',
      { log: 't10k-images-idx3-ubyte', data: 'mnist:.' },
      /a file that --data does not read/,
    ],
    ['a checkpoint', { log: 'ck/step-0000001/w', checkpoint: 'ck' }, /of --checkpoint/],
    ['a name of a checkpoint', { log: 'ck/.lock', checkpoint: 'ck' }, /of --checkpoint/],
    ['the folder of checkpoints', { log: 'no', checkpoint: 'no' }, /of --checkpoint/],
    ['the weights to start from', { log: 'ck/step-0000001/w', startFrom: 'ck' }, /of --start-from/],
    ['a folder', { report: 'ck' }, /expected a file, found the folder/],
    ['a folder by its name', { report: 'none/' }, /the name of a folder, with \/ at its end/],
    ['a file in a file', { report: 'old/r' }, /expected a file in an existing folder/],
    ['a file in no folder', { report: '~/none/r' }, /does not expand ~ here: write \$HOME/],
    ['a link to itself', { log: 'loop' }, /found ELOOP/],
    ['a long name', { log: 'x'.repeat(300) }, /found ENAMETOOLONG/],
    ['a descriptor that is not open', { log: '/dev/fd/987' }, /found EBADF/],
    ['lines in a name', { report: 'a\n\u001b[2J/b' }, /found "[^\n]*a\\n\\u001b\[2J\/b"/],
  ])('%s', (_, names, message) => {
    makeFiles();
    const before = listing();
    const outside = (name: string): boolean => /^[~/]/.test(name);
    const flags = Object.entries(names).map(([key, name]) => {
      const path = name.replace(/^mnist:/, '');
      if (outside(path)) return [key, name];
      return [key, `${name.startsWith('mnist:') ? 'mnist:' : ''}${folder}/${path}`];
    });
    const error = refusal(Object.fromEntries(flags));
    expect(error.message).toMatch(message);
    expect(error.message).not.toMatch(/\p{Cc}/u);
    expect(error.exitCode).toBe(2);
    expect(listing()).toEqual(before);
  });

  test('the file that standard output is redirected to, and a pipe without a reader', async () => {
    const cases = [
      [`${tiny} --log run.log >run.log`, 2, /expected a file other than standard output/],
      [`mkfifo p; ${tiny} --log p`, 5, /--log p: could not be opened: nobody reads the pipe/],
      [`mkfifo q; ${tiny} --report q`, 5, /--report q: could not be opened: nobody reads the pipe/],
    ] as const;
    const all = await Promise.all(cases.map(([line]) => shell(line, { cwd: folder })));
    for (const [i, { code, stdout, stderr }] of all.entries()) {
      expect([stdout, code]).toEqual(['', cases[i]?.[1]]);
      expect(stderr).toMatch(/^pod: [^\n]*\n$/);
      expect(stderr).toMatch(cases[i]?.[2] ?? /^$/);
    }
  });
});

describe('an output that fails is named and does not stop the run, which ends with exit code 5', () => {
  test.each([
    ['a log on a full disk', '--log /dev/full', 2, /8 lines could not be written: ENOSPC/],
    ['a log at its limit', '--log run.log', 2, /lines? could not be written: EFBIG/],
    ['a log that nobody reads any more', '--log >(head -c 1)', 2, /could not be written: EPIPE/],
    ['a report on a full disk', '--report /dev/full', 1, /--report \/dev\/full: could not be/],
  ])('%s', async (name, flags, lines, why) => {
    const limit = name.includes('limit') ? 'ulimit -f 1;' : '';
    const { code, stdout, stderr } = await shell(`${limit} ${tiny} ${flags}`, { cwd: folder });
    expect(code).toBe(5);
    expect(stdout).toContain('digest of the weights');
    expect(stderr.split('\n')).toHaveLength(lines + 1);
    expect(stderr).toMatch(/pod: io: output was lost: --(log|report) /);
    expect(stderr).toMatch(why);
  });

  test('a report that fails leaves the one before it as it was', async () => {
    writeFileSync(join(folder, 'run.json'), 'the one before');
    const { code } = await shell(`ulimit -f 0; ${tiny} --report run.json`, { cwd: folder });
    expect(code).toBe(5);
    expect(readFileSync(join(folder, 'run.json'), 'utf8')).toBe('the one before');
    expect(readdirSync(folder)).toEqual(['run.json']);
  });
});

test('a report keeps links to its file, and can be written to devices and pipes', async () => {
  writeFileSync(join(folder, 'old'), 'old', { mode: 0o640 });
  symlinkSync('old', join(folder, 'soft'));
  const lines = ['--report soft', '--report /dev/null', '--report /dev/stdout'];
  const ends = await Promise.all(lines.map((it) => shell(`${tiny} ${it}`, { cwd: folder })));
  expect(ends.map(({ code }) => code)).toEqual([0, 0, 0]);
  expect(JSON.parse(readFileSync(join(folder, 'soft'), 'utf8'))).toMatchObject({ steps: 3 });
  expect(statSync(join(folder, 'old')).mode & 0o777).toBe(0o640);
  expect(readdirSync(folder).sort()).toEqual(['old', 'soft']);
  expect(statSync('/dev/null').isCharacterDevice()).toBe(true);
  expect(ends[2]?.stdout).toContain('"steps": 3');
});

test('a resumed run adds to its log, also after half a line; a fresh run overwrites it', async () => {
  const line = `${tiny} --log run.log --checkpoint ck`;
  const log = join(folder, 'run.log');
  writeFileSync(log, 'of an older run');
  await shell(line, { cwd: folder });
  const first = readFileSync(log, 'utf8');
  expect(first).toMatch(/^\{"level"/);
  writeFileSync(log, `${first}{"half`);
  await shell(`${line} --resume`, { cwd: folder });
  const all = readFileSync(log, 'utf8');
  expect(all.startsWith(`${first}{"half\n{"level"`)).toBe(true);
  await shell(`${line} --data mnist:none`, { cwd: folder });
  expect(readFileSync(log, 'utf8')).toBe(all);
  expect(existsSync(join(folder, 'none'))).toBe(false);
});

function makeFiles(): void {
  writeFileSync(join(folder, 'old'), 'old');
  linkSync(join(folder, 'old'), join(folder, 'hard'));
  symlinkSync('old', join(folder, 'soft'));
  symlinkSync('soon', join(folder, 'later'));
  symlinkSync('loop', join(folder, 'loop'));
  writeFileSync(join(folder, 'run.yaml'), 'model: mlp');
  writeFileSync(join(folder, 't10k-images-idx3-ubyte'), 'data');
  mkdirSync(join(folder, 'ck', 'step-0000001'), { recursive: true });
}

function listing(): unknown {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((name) => name !== 'loop' && name !== 'later')
    .sort()
    .map((name) => {
      const stats = statSync(join(folder, name));
      return [name, stats.mtimeMs, stats.size, stats.ino];
    });
}

function refusal(flags: Readonly<Record<string, string>>): PodError {
  try {
    trainOptions(flags);
  } catch (error) {
    if (error instanceof PodError) return error;
    throw error;
  }
  throw new Error('the outputs were taken');
}

test('pod up --wait names a report that cannot be written and still prints the summary', async () => {
  const up = '$pod up --wait --tpus 1 --model mlp --steps 3 --global-batch 8 --evaluate 8';
  const lost = await shell(`${up} --dir d --report /dev/full`, { cwd: folder });
  expect(lost.code).toBe(5);
  expect(lost.stderr).toMatch(
    /^pod: io: output was lost: --report \/dev\/full: [^\n]*ENOSPC[^\n]*\n$/,
  );
  expect(JSON.parse(lost.stdout)).toMatchObject({ msg: 'summary', steps: 3 });
  const written = await shell(`${up} --dir d --report r --json`, { cwd: folder });
  expect(written).toMatchObject({ code: 0, stderr: '' });
  const { weightsDigest } = JSON.parse(written.stdout);
  expect(JSON.parse(readFileSync(join(folder, 'r'), 'utf8'))).toMatchObject({ weightsDigest });
});
