import {
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { splitWords } from '../../cluster/image/words.ts';
import { ChaosRecord, recordedTo } from '../../src/cli/chaos-record.ts';
import { runPlan } from '../../src/cli/chaos-run.ts';
import { trainOptions } from '../../src/cli/options.ts';
import { planInFile } from '../../src/cli/plan-file.ts';
import { openPlanned } from '../../src/cli/planned-run.ts';
import { repeatTraining } from '../../src/cli/repeat.ts';
import { showReport } from '../../src/cli/report-run.ts';
import { RunFolder } from '../../src/cli/run-folder.ts';
import { sourceOfFlags } from '../../src/cli/settings/source.ts';
import { parseWords } from '../../src/cli/settings/words.ts';
import type { PodError } from '../../src/numerics/error.ts';
import type { RunFact } from '../../src/run/event.ts';
import { readRun } from '../../src/run/read.ts';
import type { RunSettings } from '../../src/run/schema.ts';
import { RunStream } from '../../src/run/stream.ts';
import { requireCompiled } from '../cluster/compiled.ts';
import { note, settings, step } from '../observe/recorded.ts';
import { elements, parsePage, textOf } from '../picture/xml.ts';
import { shell } from './run-pod.ts';
import { refusal } from './settings/values.ts';

requireCompiled();
let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'pod-report-'));
});
afterEach(() => rmSync(folder, { recursive: true }));
const path = (name: string): string => join(folder, name);

/** Text that would end a line, start an element or control a terminal. */
const hostile = `<script>alert('"&amp;')</script>\u001b[2J\n\u202e\u0000</style>`;

/**
 * Records a run in the folder `run`. The text {@link hostile} is in the path of its data, in the
 * cause of a loss and in the error that ends it.
 */
function record(): void {
  let now = 1000;
  const onLoss = (why: string): never => expect.fail(why);
  const sink = new RunFolder({ path: path('run'), use: 'a test', onLoss, now: () => (now += 10) });
  const stream = new RunStream([sink]);
  const config = { ...settings.config, data: `mnist:${hostile}` };
  sink.begin({ settings: { ...settings, config }, continues: false });
  const facts: readonly RunFact[] = [
    { kind: 'ready', elapsedMs: 10 },
    step(1, 9),
    note('lost', 2, hostile),
    note('replaced', 2),
    note('resumed'),
    step(2, 38),
    { kind: 'failed', code: 'io', message: hostile },
  ];
  for (const fact of facts) stream.tell(fact);
  stream.end();
}

function pod(line: string) {
  return shell(`$pod ${line}`, { cwd: folder });
}

describe('pod report', () => {
  test('shows a record as text, as a page and as JSON, whatever text is in it', async () => {
    record();
    const text = await pod('report run --html page.html');
    expect([text.code, text.stderr]).toEqual([0, 'wrote page.html\n']);
    expect(text.stdout).toMatch(/^outcome +failed: <script>/m);
    expect(text.stdout).toMatch(/^TPU 2 {3}\|.*X.*R.*\|$/m);
    for (const it of ['\u001b', '\u202e', '\0']) expect(text.stdout.includes(it)).toBe(false);
    const page = readFileSync(path('page.html'), 'utf8');
    const root = parsePage(page);
    const labels = elements(root, 'text').map(textOf);
    for (let tpu = 0; tpu < 4; tpu++) expect(labels).toContain(`Cloud TPU ${tpu}`);
    expect(elements(root, 'script')).toEqual([]);
    expect(/<script|\u202e/.test(page)).toBe(false);
    expect(textOf(root)).toContain("<script>alert('");
    const json = await pod('report run --json');
    expect(json.stdout.trim().split('\n')).toHaveLength(1);
    expect(JSON.parse(json.stdout)).toMatchObject({
      ...{ name: 'run', tpus: 4, figures: { outcome: 'failed', committed: 2, ranAgain: 1 } },
      ...{ recoveries: [{ fromMs: 20, commitMs: 50 }], absences: [{ tpu: 2, by: 'replaced' }] },
    });
  });

  test('names what is wrong with a folder or a file, and changes nothing', () => {
    record();
    const run = path('run');
    const before = readFileSync(path('run/events.ndjson'), 'utf8');
    const refused = (flags: { html?: string }, of = run): PodError => {
      return refusal(() => showReport(of, flags));
    };
    const none = refused({}, path('none'));
    expect(none.message).toMatch(/none\/config\.json: expected a record of --run/);
    const own = refused({ html: join(run, 'events.ndjson') });
    expect(own.message).toMatch(
      /--html: expected a file that is not part of the run folder, found/,
    );
    const missing = refused({ html: path('no/page.html') });
    expect(missing.message).toMatch(/^--html: expected a file in an existing folder, found/);
    const full = refused({ html: '/dev/full' });
    expect(full.message).toMatch(/^--html \/dev\/full: could not be written: ENOSPC/);
    writeFileSync(path('run/verdict.json'), '{ "v": 1, "ground": "moon" }');
    const damaged = refused({});
    expect(damaged.message).toMatch(/run\/verdict\.json: damaged: ground: /);
    expect([own, missing, full, damaged].map(({ exitCode }) => exitCode)).toEqual([2, 2, 5, 2]);
    expect(readFileSync(path('run/events.ndjson'), 'utf8')).toBe(before);
  });
});

test('the command that repeats a run gives the same settings, however they are spelled', () => {
  for (const flags of [
    {},
    { tpus: '16', model: 'mlp', data: "mnist:it's here", steps: '7', seed: '4', momentum: '0.5' },
    { topology: '3x5', epochs: '0.25', schedule: 'constant', warmUp: '0', precision: 'f32' },
    {
      recovery: 'slice-restart',
      mxu: 'systolic',
      evaluate: '9',
      startFrom: 'a b',
      globalBatch: '512',
    },
    { relaxedSimd: false, checkpoint: 'ck', every: '5', keep: '2', learningRate: '1e-7' },
  ]) {
    const options = trainOptions(flags);
    const { config, relaxedSimd, checkpoint = null } = options;
    const line = repeatTraining({ ...settings, config, relaxedSimd, checkpoint } as RunSettings);
    const words = splitWords(line);
    expect(words.slice(0, 2)).toEqual(['pod', 'train']);
    const { source } = parseWords(words.slice(2), { where: 'a test', origin: (key) => key });
    const again = Object.fromEntries([...source.values].map(([key, { value }]) => [key, value]));
    expect(sourceOfFlags(again).values.size).toBe(source.values.size);
    expect(trainOptions(again)).toEqual(options);
  }
});

describe('pod chaos run --run', () => {
  const plan = `# my plan
run: { tpus: 2, model: mlp, steps: 5, globalBatch: 16, evaluate: 16 }
faults:
  - { fault: kill, tpu: 1, at: { step: 2, phase: reduce-scatter } }
  - { fault: exit, tpu: 0, at: { during: loading, generation: 9 } }
expect: { goodput: ">=0.01" }
`;

  test.each(['sim', 'threads'])(
    'records plan, faults and verdict on the ground %s',
    async (ground) => {
      writeFileSync(path('plan.yaml'), plan);
      const flags = `--ground ${ground} --run run --html page.html --json`;
      const { code, stdout, stderr } = await pod(`chaos run plan.yaml ${flags}`);
      expect(stderr).toBe('wrote page.html\n');
      expect(code).toBe(1);
      const { verdicts, outcomes } = JSON.parse(stdout);
      expect(readFileSync(path('run/plan.yaml'), 'utf8')).toBe(plan);
      const { judged, events, settings: found } = readRun(path('run'));
      expect(judged).toMatchObject({ ground, outcome: 'done', verdicts });
      expect(JSON.parse(JSON.stringify(judged?.faults))).toEqual(outcomes);
      const steps = events.filter(({ kind }) => kind === 'step');
      expect(steps).toHaveLength(5);
      expect(found.key.steps).toBe(5);
      const { injectedMs = 0 } = judged?.faults[0] ?? {};
      const [first, second] = steps.map(({ time }) => time);
      expect(injectedMs > (first ?? 0) && injectedMs < (second ?? 0)).toBe(true);
      const page = parsePage(readFileSync(path('page.html'), 'utf8'));
      const hints = elements(page, 'title').map(textOf);
      expect(hints.join('\n')).toMatch(/: fault, Cloud TPU 1: kill: step 2, reduce-scatter$/m);
      const cells = elements(page, 'td').map(textOf);
      for (const it of ['kill of Cloud TPU 1', 'exit of Cloud TPU 0', 'never', 'BROKEN']) {
        expect(cells).toContain(it);
      }
      const { size } = statSync(path('run/events.ndjson'));
      const shown = await pod('report run');
      expect(shown.stdout).toMatch(/^outcome +done$/m);
      truncateSync(path('run/events.ndjson'), size - 100);
      const cut = await pod('report run --json');
      expect(JSON.parse(cut.stdout).figures).toMatchObject({
        ...{ outcome: 'unknown', why: expect.stringMatching(/^the record ends after event \d+: /) },
      });
      const again = runPlan(path('plan.yaml'), { ground, run: path('run') });
      await expect(again).rejects.toThrow(
        /--run .*: expected a folder without the record of a run/,
      );
    },
    60_000,
  );

  test('records the events of threads as they happen, so that a killed run has a record', async () => {
    writeFileSync(path('plan.yaml'), plan);
    const planned = await openPlanned(planInFile(path('plan.yaml')), 'threads');
    const run = path('run');
    const record = new ChaosRecord(recordedTo(planned, run), run);
    expect(readdirSync(run)).toEqual(['plan.yaml']);
    record.stream?.tell({ kind: 'ready', elapsedMs: 5 });
    record.stream?.tell(step(1, 9));
    const { events, judged } = readRun(run);
    expect(events.map(({ kind }) => kind)).toEqual(['ready', 'step']);
    expect(judged).toBeUndefined();
    record.close();
  });

  test('records a simulation with virtual times: twice the same record, byte for byte', async () => {
    writeFileSync(path('plan.yaml'), plan);
    const line = (name: string): string => `$pod chaos run plan.yaml --ground sim --run ${name}`;
    await shell(`${line('one')} & ${line('two')} & wait`, { cwd: folder });
    for (const name of ['events.ndjson', 'config.json', 'verdict.json', 'plan.yaml']) {
      const [one, two] = ['one', 'two'].map((run) => readFileSync(path(`${run}/${name}`), 'utf8'));
      expect(two).toBe(one);
    }
  }, 60_000);

  test('refuses a folder or a page that cannot be, before anything runs', async () => {
    const file = path('plan.yaml');
    writeFileSync(file, plan);
    const ground = 'threads';
    await expect(runPlan(file, { ground, run: file })).rejects.toThrow(
      /^--run: expected a folder, found a regular file/,
    );
    await expect(runPlan(file, { ground, html: path('no/page.html') })).rejects.toThrow(
      /^--html: expected a file in an existing folder/,
    );
  });
});
