import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { splitWords } from '../../../cluster/image/words.ts';
import { readMaster, readServing } from '../../../cluster/master/words.ts';
import { settingsOf } from '../../../src/cli/options.ts';
import { withAbsolutePaths } from '../../../src/cli/settings/paths.ts';
import { jobRequest } from '../../../src/cli/settings/submit.ts';
import { upRequest } from '../../../src/cli/settings/up.ts';
import { refusal, yaml } from './values.ts';

describe('pod up', () => {
  test('the master gets the merged flags and file, with paths made absolute', () => {
    const config = yaml('model: mlp\nglobalBatch: 16\ndata: "mnist:it\'s"\ncheckpoint: ck\n');
    const flags = { config, tpus: '2', seed: '7', startFrom: '../old', relaxedSimd: false };
    const { tpus, args } = upRequest(flags, false, '/home/who');
    expect(tpus).toBe(2);
    expect(splitWords(args)).toEqual([
      ...['--model', 'mlp', '--global-batch', '16', '--data', "mnist:/home/who/it's"],
      ...['--checkpoint', '/home/who/ck', '--tpus', '2', '--seed', '7'],
      ...['--start-from', '/home/old', '--no-relaxed-simd'],
    ]);
    expect(readMaster({ POD_ARGS: args, TPUS: '' }).config).toMatchObject({
      ...{ model: 'mlp', topology: { columns: 2, rows: 1 }, seed: 7, startFrom: '/home/old' },
    });
  });

  test('a request that the master would refuse is refused before the master starts', () => {
    const wrong = (flags: object, serve = false) =>
      refusal(() => upRequest({ ...flags }, serve, '/')).message;
    expect(wrong({ globalBatch: '9' })).toMatch(/^--global-batch: expected a multiple of 64/);
    expect(wrong({ config: yaml('json: true') })).toMatch(
      /^json in .*: the pod keeps its log itself/,
    );
    expect(wrong({ config: yaml('log: x') })).toMatch(/^log in .*: the pod keeps its log itself/);
    expect(wrong({ every: '5' })).toMatch(/^--every: expected --checkpoint DIR too, found none$/);
    expect(wrong({ model: 'mlp' }, true)).toMatch(
      /^--model: a pod that takes jobs has no run of its own; /,
    );
    expect(wrong({ checkpoint: 'x' }, true)).toMatch(/^--checkpoint: a pod that takes jobs has no/);
    expect(wrong({ config: yaml('steps: 3') }, true)).toMatch(
      /^steps in .*: a pod that takes jobs/,
    );
  });

  test('a serving pod has the requested size and its grid', () => {
    for (const [flags, tpus, grid] of [
      [{}, 8, '4x2'],
      [{ tpus: '2' }, 2, '2x1'],
      [{ topology: '3x2' }, 6, '3x2'],
      [{ config: yaml('topology: 1x4') }, 4, '1x4'],
    ] as const) {
      const request = upRequest(flags, true, '/');
      expect(request.tpus).toBe(tpus);
      const { columns, rows } = readServing({ TPUS: `${tpus}`, POD_ARGS: request.args });
      expect(`${columns}x${rows}`).toBe(grid);
    }
  });
});

describe('pod submit', () => {
  test('the words of a job have the file merged in and paths made absolute', () => {
    const config = yaml('model: mlp\nglobal-batch: 16\ntpus: 1\n');
    const words = ['--config', config, '--steps=3', '--data', 'mnist:files', '--start-from', 'ck'];
    expect(jobRequest(words, '/home/who').words).toEqual([
      ...['--model', 'mlp', '--global-batch', '16', '--tpus', '1', '--steps', '3'],
      ...['--data', 'mnist:/home/who/files', '--start-from', '/home/who/ck'],
    ]);
    const plain = ['--model', 'mlp', '--data', 'mnist:/a b'];
    expect(jobRequest(plain, '/home/who').words).toEqual(plain);
  });

  test('a setting that a job may not set is refused before it is sent, from a file and from flags', () => {
    const wrong = (...words: string[]) => refusal(() => jobRequest(words, '/')).message;
    const reason =
      'the pod keeps the log, the report and the checkpoints of a job itself; leave this setting out';
    expect(wrong('--report', 'r.json')).toBe(`--report: ${reason}`);
    const file = yaml('report: r.json');
    expect(wrong('--config', file)).toBe(`report in ${file}: ${reason}`);
    expect(wrong('--steps', 'many')).toBe('--steps: expected a whole number, found "many"');
    expect(wrong('--steps', '3', '--steps', '3')).toBe('--steps: given twice; leave one out');
  });

  test('words that this version does not know are sent to the master unchanged', () => {
    for (const words of [['--new', '1'], ['x'], ['--help'], ['--steps']]) {
      expect(jobRequest(words, '/').words).toEqual(words);
    }
  });

  test('a refusal of the master is translated to the file or flag that the user gave', () => {
    const config = yaml('global-batch: 9\n');
    const { inWordsOfSender } = jobRequest(['--config', config, '--tpus', '4'], '/');
    expect(inWordsOfSender('globalBatch of the job: expected 16')).toBe(
      `global-batch in ${config}: expected 16`,
    );
    expect(inWordsOfSender('steps of the job and tpus of the job: no')).toBe(
      'steps of the job and --tpus: no',
    );
  });
});

test('absolute paths stay, relative paths are resolved against the folder, other values stay', () => {
  const name = fc.stringMatching(/^[a-z]{1,5}$/);
  const path = fc.tuple(fc.constantFrom('', '/', '../', './'), name).map((it) => it.join(''));
  fc.assert(
    fc.property(path, path, (data, log) => {
      const flags = { data: `mnist:${data}`, startFrom: log, model: 'mlp' };
      const settings = settingsOf(flags, 'job');
      const moved = withAbsolutePaths(settings, '/home/who');
      expect(moved.get('startFrom')).toBe(join(log.startsWith('/') ? '/' : '/home/who', log));
      expect(moved.get('data')).toBe(
        `mnist:${join(data.startsWith('/') ? '/' : '/home/who', data)}`,
      );
      expect([...withAbsolutePaths(moved, '/elsewhere').given]).toEqual([...moved.given]);
      expect(moved.origin('data')).toBe('--data');
    }),
  );
  const digits = settingsOf({ data: 'digits:7', model: 'mlp' }, 'job');
  expect(withAbsolutePaths(digits, '/home').get('data')).toBe('digits:7');
});
