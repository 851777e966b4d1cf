import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  type MasterEnv,
  readJobWords,
  readMaster,
  readServing,
  submittedWords,
} from '../../../cluster/master/words.ts';
import { refusal } from '../../cli/settings/values.ts';

let folder = '';
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'pod-words-'));
  mkdirSync(join(folder, 'mnist'));
});
afterAll(() => rmSync(folder, { recursive: true }));

function file(text: string): string {
  const path = join(folder, 'run.yaml');
  writeFileSync(path, text);
  return path;
}

const eight = { columns: 4, rows: 2 };

describe('the environment of a master', () => {
  test.each<[MasterEnv, object]>([
    [{}, eight],
    [{ TPUS: '' }, eight],
    [{ TPUS: '2' }, { columns: 2, rows: 1 }],
    [{ TPUS: '8\r' }, eight],
    [{ POD_ARGS: '--tpus 4' }, { columns: 2, rows: 2 }],
    [
      { TPUS: '4', POD_ARGS: '--tpus 4' },
      { columns: 2, rows: 2 },
    ],
    [
      { TPUS: '8', POD_ARGS: '--topology 8x1' },
      { columns: 8, rows: 1 },
    ],
    [
      { TPUS: '12', POD_ARGS: '--topology 4x3' },
      { columns: 4, rows: 3 },
    ],
  ])('%j has one size of the pod', (env, topology) => {
    expect(readMaster(env).config.topology).toEqual(topology);
    expect(readServing(env)).toEqual(topology);
  });

  test.each<[MasterEnv, RegExp]>([
    [
      { TPUS: '8', POD_ARGS: '--tpus 4' },
      /^TPUS and --tpus in POD_ARGS: expected one size of the pod, found 8 and 4 Cloud TPUs; /,
    ],
    [
      { TPUS: '8', POD_ARGS: '--topology 2x2' },
      /^TPUS and --topology in POD_ARGS: expected one size of the pod, found 8 and 4 Cloud/,
    ],
    [{ TPUS: 'many' }, /^TPUS: expected a whole number, found "many"$/],
    [{ TPUS: '12' }, /^TPUS: 12 Cloud TPUs: expected one of 1, 2, 4, 8, 16, 32, 64, or a topology/],
    [{ TPUS: '65' }, /^TPUS: expected at most 64, found "65"$/],
    [{ TPUS: '4', POD_ARGS: '--tpus 4 --topology 4x1 --tpus 4' }, /^--tpus in POD_ARGS: given tw/],
    [{ POD_ARGS: '--topology 9x1' }, /^--topology in POD_ARGS: expected columns x rows/],
    [{ POD_ARGS: "--model 'mlp" }, /^POD_ARGS: expected a closing ', found the end of the text$/],
    [{ POD_ARGS: '--modle mlp' }, /^POD_ARGS: unknown option '--modle'/],
  ])('%j is refused with a message that names both sources', (env, message) => {
    for (const read of [readMaster, readServing]) {
      expect(refusal(() => read(env))).toMatchObject({ exitCode: 2 });
      expect(refusal(() => read(env)).message).toMatch(message);
    }
  });

  test('a settings file may give the size of the pod too', () => {
    const POD_ARGS = `--config ${file('tpus: 1\nmodel: mlp\n')}`;
    expect(readMaster({ POD_ARGS }).config).toMatchObject({
      ...{ topology: { columns: 1, rows: 1 }, model: 'mlp', recovery: 'replace' },
    });
    expect(refusal(() => readMaster({ POD_ARGS, TPUS: '8' })).message).toMatch(
      /^TPUS and tpus in .*run\.yaml: expected one size of the pod, found 8 and 1 Cloud TPUs/,
    );
    // The settings file gives the size 1, and the flag --tpus overrides it with 8. The variable
    // TPUS gives 8 too. The two sizes are equal, so the master accepts them.
    expect(readMaster({ POD_ARGS: `${POD_ARGS} --tpus 8`, TPUS: '8' }).config.topology).toEqual(
      eight,
    );
  });

  test.each(['--log x', '--json', '--print fusion'])('%s is refused for a master', (args) => {
    const flag = args.split(' ')[0];
    expect(refusal(() => readMaster({ POD_ARGS: args })).message).toMatch(
      new RegExp(`^${flag} in POD_ARGS: `),
    );
  });

  test('a setting that a master does not take is refused in a file too', () => {
    const POD_ARGS = `--config ${file('json: true\n')}`;
    expect(refusal(() => readMaster({ POD_ARGS })).message).toMatch(
      /^json in .*: a master writes its log to standard output/,
    );
  });

  test.each(['--model mlp', '--steps 3', '--checkpoint /x', '--no-relaxed-simd', '--seed 1'])(
    'a pod that takes jobs refuses %s',
    (POD_ARGS) => {
      const flag = POD_ARGS.split(' ')[0];
      expect(refusal(() => readServing({ POD_ARGS })).message).toBe(
        `${flag} in POD_ARGS: a pod that takes jobs has no run of its own; give this setting to pod submit, after --`,
      );
    },
  );

  test('relative paths are resolved against the working directory of the master', () => {
    const { config, checkpoint } = readMaster({
      POD_ARGS: '--data mnist:files/mnist --checkpoint ck --start-from old',
    });
    expect(config.data).toBe(`mnist:${resolve('files/mnist')}`);
    expect(config.startFrom).toBe(resolve('old'));
    expect(checkpoint?.directory).toBe(resolve('ck'));
  });
});

describe('the words of a job', () => {
  test('a job takes the whole slice by default, or a smaller one', () => {
    const slice = (...words: string[]) => readJobWords(words, 'job', eight).config.topology;
    expect(slice()).toEqual(eight);
    expect(slice('--tpus', '2')).toEqual({ columns: 2, rows: 1 });
    expect(slice('--topology', '8x1')).toEqual({ columns: 8, rows: 1 });
    expect(slice('--config', file('tpus: 1\n'))).toEqual({ columns: 1, rows: 1 });
    const odd = { columns: 3, rows: 1 };
    expect(readJobWords([], 'job', odd).config.topology).toEqual(odd);
  });

  test('a job keeps checkpoints in its folder and resumes from them', () => {
    expect(readJobWords(['--every', '7'], 'job', eight)).toMatchObject({
      config: { recovery: 'replace' },
      checkpoint: { directory: 'job/checkpoints', every: 7, keep: 3, resume: true },
    });
  });

  test.each<[string[], RegExp]>([
    [
      ['--tpus', '16'],
      /^tpus of the job: expected at most 8 Cloud TPUs, as the pod has, found 16$/,
    ],
    [['--topology', '8x2'], /^topology of the job: expected at most 8 Cloud TPUs, .* found 16$/],
    [['--global-batch', '100'], /^globalBatch of the job: expected a multiple of 64/],
    [
      ['--log', 'x'],
      /^log of the job: the pod keeps the log, the report and the checkpoints of a job itself; leave/,
    ],
    [['--report', '/x'], /^report of the job: the pod keeps the log/],
    [['--json'], /^json of the job: the pod keeps the log/],
    [['--checkpoint', '/x'], /^checkpoint of the job: the pod keeps the log/],
    [['--resume'], /^resume of the job: the pod keeps the log/],
    [
      ['--print', 'hlo'],
      /^print of the job: only pod train and pod compile print a pass of the compiler;/,
    ],
    [['--steps', '3', '--steps', '4'], /^steps of the job: given twice/],
    [['--stps', '3'], /^flags of a job: unknown option '--stps'/],
    [['--data', 'mnist:mnist'], /^data of the job: expected an absolute path on the master's mach/],
    [['--start-from', 'ck'], /^startFrom of the job: expected an absolute path on the master's/],
    [['--config', 'run.yaml'], /run\.yaml: expected a YAML file, found nothing there$/],
    [
      ['--data', 'mnist:/no/such'],
      /^data of the job: expected a file or folder on the master's machine, found nothing at \/no\/such$/,
    ],
  ])('%j are refused at submission', (words, message) => {
    expect(refusal(() => submittedWords(words, eight))).toMatchObject({ exitCode: 2 });
    expect(refusal(() => submittedWords(words, eight)).message).toMatch(message);
  });

  test.each(['report: r.json', 'log: x', 'checkpoint: /x', 'resume: true', 'json: true'])(
    '%s in a file is refused like the flag',
    (line) => {
      const words = ['--config', file(`model: mlp\n${line}\n`)];
      expect(refusal(() => submittedWords(words, eight)).message).toMatch(
        /^\w+ in .*run\.yaml: the pod keeps the log, the report and the checkpoints of a job itself;/,
      );
    },
  );

  test("the stored words of a job do not depend on later changes of the file or of the pod's size", () => {
    const config = file('model: mlp\nwarm-up: 0.5\nrelaxedSimd: false\n');
    const words = ['--steps', '20', '--config', config, '--data', `mnist:${folder}/mnist`];
    const kept = submittedWords(words, eight);
    expect(kept).toEqual([
      ...['--model', 'mlp', '--warm-up', '0.5', '--no-relaxed-simd', '--steps', '20'],
      ...['--data', `mnist:${folder}/mnist`, '--tpus', '8'],
    ]);
    file('model: cnn\n');
    const sixteen = { columns: 4, rows: 4 };
    expect(readJobWords(kept, 'job', sixteen).config).toMatchObject({
      ...{ model: 'mlp', warmUp: 0.5, topology: eight },
    });
    expect(submittedWords(['--steps', '20', '--tpus', '2'], eight)).toEqual([
      ...['--steps', '20', '--tpus', '2'],
    ]);
    expect(submittedWords([], { columns: 3, rows: 1 })).toEqual(['--topology', '3x1']);
  });
});
