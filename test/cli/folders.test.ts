import { type ChildProcess, spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { endOf, shell, startPod, untilWritten } from './run-pod.ts';

const tiny = '--model mlp --tpus 1 --global-batch 8 --evaluate 8';

let folder = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'pod-folders-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

/** Folder of a finished run of three steps. Its subfolder `ck` has the checkpoint of this run. */
let saved = '';
beforeAll(async () => {
  saved = mkdtempSync(join(tmpdir(), 'pod-saved-'));
  await shell(`$pod train ${tiny} --steps 3 --checkpoint ck`, { cwd: saved });
  expect(readdirSync(join(saved, 'ck'))).toEqual(['step-0000003']);
});
afterAll(() => rmSync(saved, { recursive: true }));

function copySaved(): void {
  cpSync(join(saved, 'ck'), join(folder, 'ck'), { recursive: true });
}

function checkpoints(): string[] {
  const directory = join(folder, 'ck');
  return existsSync(directory) ? readdirSync(directory).filter((it) => /^step-/.test(it)) : [];
}

/**
 * Returns all names in the folder with their sizes, times and checksums. Tests compare this text
 * before and after a command.
 */
function listing(): string {
  const line =
    'find . -printf "%p %y %s %T@\\n" | sort; find . -type f -exec sha256sum {} + | sort';
  return spawnSync('bash', ['-c', line], { cwd: folder, encoding: 'utf8' }).stdout;
}

describe('a folder of checkpoints while a run writes to it', () => {
  let writer: ChildProcess;
  beforeEach(async () => {
    const words = `train ${tiny} --steps 100000 --checkpoint ck --every 1 --keep 2`.split(' ');
    writer = startPod(words, folder);
    writer.stdout?.resume();
    while (checkpoints().length < 2) await sleep(20);
  });
  afterEach(async () => {
    if (writer.exitCode !== null || writer.signalCode !== null) return;
    const ended = endOf(writer);
    writer.kill('SIGKILL');
    await ended;
  });

  test('is refused to another run, and free as soon as its owner is killed', async () => {
    for (const command of [
      'train --seed 2',
      'train --seed 2 --resume',
      'train --resume',
      'up --resume',
    ]) {
      const { code, stderr } = await shell(`$pod ${command} ${tiny} --steps 3 --checkpoint ck`, {
        cwd: folder,
      });
      expect(stderr).toMatch(
        /^pod: in-use: ck: in use by process \d+; wait until that process has ended, or /,
      );
      expect(stderr).toContain(`process ${writer.pid};`);
      expect(code).toBe(2);
      expect(existsSync(join(folder, '.pod'))).toBe(false);
    }
    const ended = endOf(writer);
    writer.kill('SIGKILL');
    await ended;
    writer = startPod(`train ${tiny} --steps 100000 --checkpoint ck --resume`.split(' '), folder);
    const again = endOf(writer);
    await untilWritten(writer, '\nstep');
    writer.kill('SIGTERM');
    const { code, stdout, stderr } = await again;
    expect(stderr).not.toContain('in-use');
    expect(stdout).toContain('continues from step-');
    expect(code).toBe(143);
  });

  test('can be read by others, which never see a rotated checkpoint as bad', async () => {
    for (let i = 0; i < 3; i++) {
      const line =
        '$pod checkpoint verify ck && $pod checkpoint ls ck && $pod checkpoint export ck';
      const { code, stdout, stderr } = await shell(`${line} --output w.safetensors`, {
        cwd: folder,
      });
      expect(stderr).toBe('');
      expect(stdout).not.toMatch(/\bbad\b/);
      expect(code).toBe(0);
    }
  });
});

/**
 * Expects that a command is refused with `code` and does not change the folder. If the command
 * names the subfolder `ck`, this function first copies checkpoints there.
 */
async function expectRefused(command: string, code: string): Promise<void> {
  writeFileSync(join(folder, 'file'), 'of the user\n');
  if (command.includes(' ck')) copySaved();
  const before = listing();
  const ended = await shell(`$pod ${command}`, { cwd: folder });
  expect(ended.stderr).toMatch(new RegExp(`^pod: ${code}: [^\\n]*\\n$`));
  expect(ended.code).toBe(code === 'io' ? 5 : 2);
  expect(listing()).toBe(before);
}

describe('a start that is refused changes nothing on disk', () => {
  test.each([
    ['missing data', '--data mnist:nope --checkpoint new --report r --log l', 'bad-data'],
    ['another run', '--seed 2 --steps 3 --checkpoint ck --resume', 'bad-config'],
    ['checkpoints without --resume', '--steps 3 --checkpoint ck', 'bad-config'],
    ['a schedule of other rates', '--steps 9 --checkpoint ck --resume', 'bad-config'],
    ['--start-from a folder without checkpoints', '--start-from . --checkpoint new', 'bad-data'],
    ['a global batch that does not divide', '--global-batch 7 --checkpoint new', 'bad-flag'],
    ['a file in the place of the folder', '--steps 3 --checkpoint file', 'io'],
    ['a folder in a file', '--steps 3 --checkpoint file/ck', 'io'],
  ])('%s', (_, flags, code) => expectRefused(`train ${tiny} ${flags}`, code));
});

describe('pod up refuses an impossible run before it changes the folder of the pod', () => {
  test.each([
    ['missing data', '--data mnist:nope', 'bad-data'],
    ['checkpoints without --resume', '--steps 3 --checkpoint ck', 'bad-config'],
    ['another run', '--seed 2 --steps 3 --checkpoint ck --resume', 'bad-config'],
    ['--start-from a folder without checkpoints', '--start-from . --checkpoint new', 'bad-data'],
    ['a file in the place of the folder', '--steps 3 --checkpoint file', 'io'],
    ['no folder for the pod', "--steps 3 --dir ''", 'bad-flag'],
    ['a folder with foreign files', '--steps 3 --dir ck', 'bad-flag'],
    ['a file in the place of the folder of the pod', '--steps 3 --dir file', 'bad-flag'],
    ['a newline in the name of the folder', "--steps 3 --dir $'d\nx'", 'bad-flag'],
    ['a report in the place of the token', '--steps 3 --dir . --report token', 'bad-flag'],
    ['a report in the place of the jobs', '--steps 3 --dir . --report ./jobs', 'bad-flag'],
    ['checkpoints in the folder of the pod', '--steps 3 --dir new --checkpoint new', 'bad-flag'],
    [
      'checkpoints in the folder of jobs',
      '--steps 3 --dir new --checkpoint new/jobs/job-1',
      'bad-flag',
    ],
  ])('%s', (_, flags, code) => expectRefused(`up ${tiny} ${flags}`, code));
});

test('a report and a log belong to one run at a time, and are free once its process is killed', async () => {
  const first = startPod(`train ${tiny} --steps 100000 --report r --log l`.split(' '), folder);
  const ended = endOf(first);
  await untilWritten(first, '\nstep');
  for (const name of ['report', 'log']) {
    const path = name.slice(0, 1);
    const { code, stderr } = await shell(`$pod train ${tiny} --steps 1 --${name} ${path}`, {
      cwd: folder,
    });
    expect(stderr).toMatch(new RegExp(`^pod: in-use: --${name} ${path}: in use by [^\\n]*\\n$`));
    expect(code).toBe(2);
  }
  copySaved();
  const exported = await shell('$pod checkpoint export ck --output l', { cwd: folder });
  expect(exported.stderr).toMatch(/^pod: in-use: --output l: in use by process \d+;/);
  rmSync(join(folder, 'ck'), { recursive: true });
  for (const command of ['train --report l', 'up --report r', 'up --dir new --report l']) {
    const { code, stderr } = await shell(`$pod ${command} ${tiny} --steps 1`, { cwd: folder });
    expect(stderr).toMatch(
      /^pod: in-use: --report [lr]: in use by process \d+; wait until that process has ended\n$/,
    );
    expect(code).toBe(2);
  }
  expect(readdirSync(folder).sort()).toEqual(['l', 'r']);
  first.kill('SIGKILL');
  await ended;
  const { code } = await shell(`$pod train ${tiny} --steps 1 --report r --log l`, { cwd: folder });
  expect(code).toBe(0);
  expect(readdirSync(folder).sort()).toEqual(['l', 'r']);
});

test('a run whose log file is deleted reports its output as lost', async () => {
  const line = `train ${tiny} --steps 100000 --report r --log l`;
  const run = startPod(line.split(' '), folder);
  const ended = endOf(run);
  await untilWritten(run, '\nstep');
  rmSync(join(folder, 'l'));
  run.kill('SIGTERM');
  const { code, stderr } = await ended;
  expect(stderr).toContain('output was lost: --log l: the file was deleted or replaced');
  expect(code).toBe(143);
  expect(readdirSync(folder)).toEqual([]);
});

test('a run does not start over in a folder whose checkpoints are all damaged', async () => {
  const train = `$pod train ${tiny} --schedule constant --warm-up 0 --checkpoint ck`;
  await shell(`${train} --steps 3`, { cwd: folder });
  writeFileSync(join(folder, 'ck/step-0000003/manifest.json'), '');
  writeFileSync(join(folder, 'ck/notes.txt'), 'of the user\n');
  const before = listing();
  const { code, stderr } = await shell(`${train} --steps 6 --resume`, { cwd: folder });
  expect(stderr).toMatch(
    /^pod: bad-data: no checkpoint in the directory can be resumed: step-0000003: /,
  );
  expect(code).toBe(2);
  expect(listing()).toBe(before);
});
