import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { ChaosOutputs } from '../../src/cli/chaos-outputs.ts';
import { ChaosRecord, recordedTo } from '../../src/cli/chaos-record.ts';
import { type ChaosFlags, runPlan } from '../../src/cli/chaos-run.ts';
import { checkOutputFolder } from '../../src/cli/made-folder.ts';
import { planInFile } from '../../src/cli/plan-file.ts';
import { openPlanned, type PlannedRun } from '../../src/cli/planned-run.ts';
import { RunFolder } from '../../src/cli/run-folder.ts';
import type { Ground } from '../../src/fault/plan.ts';
import { readRun } from '../../src/run/read.ts';
import { settings } from '../observe/recorded.ts';

let folder: string;
let printed: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'chaos-outputs-'));
  printed = '';
  writeFileSync(path('ok.yaml'), plan);
  vi.spyOn(process.stdout, 'write').mockImplementation((text) => {
    printed += text;
    return true;
  });
});
afterEach(() => {
  vi.restoreAllMocks();
  rmSync(folder, { recursive: true });
});

const path = (name: string): string => join(folder, name);
const plan = `run: { tpus: 2, model: mlp, steps: 1, globalBatch: 16, evaluate: 16 }
faults: [{ fault: kill, tpu: 1, at: { step: 1 } }]
`;

function opened(ground: Ground): Promise<PlannedRun> {
  return openPlanned(planInFile(path('ok.yaml')), ground);
}

/** Runs the plan in a simulation. Returns the error with which it was refused. */
async function refusal(flags: Partial<ChaosFlags>): Promise<unknown> {
  const refused = await runPlan(path('ok.yaml'), { ground: 'sim', ...flags }).catch(
    (error: unknown) => error,
  );
  expect(printed).toBe('');
  expect(refused).toMatchObject({ name: 'PodError', exitCode: 2 });
  return String(refused);
}

describe('an output of pod chaos run', () => {
  test.each(['html', 'log'] as const)('does not replace the plan: --%s', async (flag) => {
    expect(await refusal({ [flag]: path('ok.yaml') })).toMatch(
      new RegExp(`--${flag}: expected a file that pod chaos run does not read, found .*ok\\.yaml`),
    );
    expect(readFileSync(path('ok.yaml'), 'utf8')).toBe(plan);
  });

  test.each(['plan.yaml', 'verdict.json', 'report.json', 'events.ndjson'])(
    'does not replace the file %s of the user',
    async (name) => {
      mkdirSync(path('fold'));
      writeFileSync(path(`fold/${name}`), 'mine');
      expect(await refusal({ run: path('fold') })).toMatch(
        `expected a folder without ${name}, found one without config.json; name another folder`,
      );
      const sink = new RunFolder({ path: path('fold'), use: 'a test', onLoss: () => undefined });
      expect(() => sink.check({ settings, continues: false })).toThrow(`a folder without ${name}`);
      sink.end();
      expect(readdirSync(path('fold'))).toEqual([name]);
      expect(readFileSync(path(`fold/${name}`), 'utf8')).toBe('mine');
    },
  );

  test('does not replace a file of the data set or a checkpoint of the run', async () => {
    mkdirSync(path('ck/step-1'), { recursive: true });
    writeFileSync(path('ck/step-1/x'), 'mine');
    const withCheckpoints = plan.replace('steps: 1', `checkpoint: "${path('ck')}", steps: 1`);
    writeFileSync(path('ok.yaml'), withCheckpoints);
    expect(await refusal({ html: path('ck/step-1/x') })).toMatch(
      /--html: expected a path that is not part of the checkpoints of run\.checkpoint in /,
    );
  });

  test('is not another output, and not a folder of one', async () => {
    const same = path('same.x');
    const other = (flag: string): RegExp => new RegExp(`expected a file other than .*${flag}, fou`);
    expect(await refusal({ log: same, html: same })).toMatch(other('that of --log'));
    expect(await refusal({ run: same, html: same })).toMatch(other('the folder of --run'));
    expect(await refusal({ run: join(same, 'in'), log: same })).toMatch(other('folder of --run'));
    mkdirSync(same);
    expect(await refusal({ run: same, html: join(same, 'report.json') })).toMatch(/--run/);
    expect(readdirSync(folder).sort()).toEqual(['ok.yaml', 'same.x']);
  });

  test('is refused before the run if it cannot be written', async () => {
    expect(await refusal({ log: folder })).toMatch(/--log: expected a file, found the folder /);
    for (const run of ['/proc/x', '/proc']) {
      expect(await refusal({ run })).toMatch(/bad-flag|--run/);
      expect(await refusal({ html: '/proc/page.html' })).toMatch(
        /--html .*expected a file that can be written, found E/,
      );
    }
    expect(await refusal({ run: '/proc/x/y' })).toMatch(
      /--run: expected a folder that can be written, found E.*; name another folder/,
    );
  });
});

describe('what pod chaos run takes before it begins', () => {
  const grounds: readonly Ground[] = ['sim', 'threads', 'processes'];

  test.each(grounds)('is a folder that no other run can take: %s', async (ground) => {
    const planned = recordedTo(await opened(ground), path('deep/run'));
    const record = new ChaosRecord(planned, path('deep/run'));
    expect(await refusal({ run: path('deep/run') })).toMatch(/--run .*: in use by .*pid|process/);
    expect(() => new ChaosRecord(planned, path('deep/run'))).toThrow(/in use by/);
    record.close();
    expect(existsSync(path('deep'))).toBe(false);
    await runPlan(path('ok.yaml'), { ground: 'sim', run: path('deep/run') });
    expect(readRun(path('deep/run')).judged?.outcome).toBe('done');
    expect(readFileSync(path('deep/run/plan.yaml'), 'utf8')).toBe(plan);
  });

  test('are the files of --log and --html, of which none is left unwritten', async () => {
    const planned = await opened('sim');
    for (const flag of ['html', 'log'] as const) {
      const taken = new ChaosOutputs(planned, path('ok.yaml'), { [flag]: path('out') });
      expect(await refusal({ [flag]: path('out') })).toMatch(/--(html|log) .*: in use by /);
      taken.close();
      expect(readdirSync(folder)).toEqual(['ok.yaml']);
    }
    await runPlan(path('ok.yaml'), { ground: 'sim', log: path('log'), html: path('page.html') });
    expect(readFileSync(path('log'), 'utf8')).toContain('"event":"injected"');
    expect(readFileSync(path('page.html'), 'utf8')).toMatch(/<\/html>\n?$/);
  });

  test('is a folder for temporary files, if the ground needs one', async () => {
    vi.stubEnv('TMPDIR', '/proc/none');
    await expect(opened('processes')).rejects.toMatchObject({
      code: 'io',
      message: expect.stringMatching(
        /^TMPDIR: expected a folder for temporary files, found \/proc\/none: E.*; set TMPDIR to /,
      ),
    });
    await expect(opened('threads')).resolves.toMatchObject({ ground: 'threads' });
    vi.unstubAllEnvs();
  });
});

test('a folder for output is checked without a trace', () => {
  checkOutputFolder('--out', path('a/b/c'));
  checkOutputFolder('--out', folder);
  const refused = (of: string): string => {
    try {
      checkOutputFolder('--out', of);
    } catch (error) {
      return String(error);
    }
    return 'accepted';
  };
  const expected = 'PodError: --out: expected a folder that can be written, found';
  expect(refused(path('ok.yaml'))).toContain(`${expected} a regular file (`);
  expect(refused('')).toContain(`${expected} an empty name ("")`);
  for (const none of ['/proc', '/proc/x/y', path('ok.yaml/in')]) {
    expect(refused(none)).toContain(`${expected} E`);
  }
  expect(readdirSync(folder)).toEqual(['ok.yaml']);
});
