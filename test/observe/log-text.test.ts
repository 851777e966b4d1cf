import { pino } from 'pino';
import { describe, expect, test } from 'vitest';
import type { Report, TrainEvent } from '../../src/experiment/event.ts';
import { logEvent } from '../../src/observe/log.ts';
import { type LogReader, LogText } from '../../src/observe/log-text.ts';
import { Progress } from '../../src/observe/progress.ts';

const quantiles = { p50: 1, p90: 2, max: 3 };
const phases = ['infeed', 'compute', 'all-reduce', 'update', 'outfeed', 'commit'];
const report = {
  ...{ tpus: 1, topology: '1x1', model: 'mlp', data: 'digits', globalBatch: 8, steps: 3 },
  ...{ stepsTrained: 3, seed: 0, precision: 'bf16', mxu: 'fast', finalLoss: 2.5 },
  ...{ evalAccuracy: 0.5, evalSamples: 8, weightsDigest: '00ff00ff00ff00ff' },
  ...{ imagesPerSecond: 99, stepMs: quantiles, hbmBytesPerCore: 4096, recoveries: 0 },
  phaseMs: Object.fromEntries(phases.map((it) => [it, quantiles])),
  linkBytes: { 'chip(0,0)+X': 7 },
} as unknown as Report;
const config = {
  ...{ topology: { columns: 1, rows: 1 }, model: 'mlp', data: 'digits', globalBatch: 8, seed: 0 },
};
const events = [
  {
    ...{ kind: 'started', config, tpus: 1, steps: 3, trainSamples: 60_000, parameters: 407_050 },
    ...{ hbmBytesPerCore: 4096, hbmLimitBytes: 8192 },
  },
  { kind: 'resumed', checkpoint: 'step-0000001', step: 1, refused: [{ name: 'a', reason: 'b' }] },
  { kind: 'warm-started', checkpoint: 'ck', weightsDigest: '00', refused: [] },
  { kind: 'ready', elapsedMs: 12 },
  {
    ...{ kind: 'step', step: 3, steps: 3, epoch: 0.5, loss: 2, accuracy: 0.25, learningRate: 0.1 },
    ...{ digest: '00', wallMs: 12, imagesPerSecond: 700, phaseMs: {} },
    slowest: { tpu: 3, ownMs: 9, othersMs: 4 },
    timing: { slowestPhase: 'update', slowestSince: 2, waitMs: 5, causedMs: 4.5 },
  },
  {
    ...{ kind: 'straggler', step: 3, inARow: 3, tpu: 3, ownMs: 9, othersMs: 4 },
    ...{ slowestPhase: 'update', causedMs: 4.5 },
  },
  { kind: 'straggler', step: 3, inARow: 3, tpu: 3, ownMs: 9, othersMs: 4 },
  { kind: 'checkpoint', step: 3, name: 'step-0000003', bytes: 2048, wallMs: 5 },
  { kind: 'checkpoint-failed', step: 3, reason: 'the disk is full' },
  { kind: 'checkpoint-refused', name: 'step-0000002', reason: 'cut' },
  {
    kind: 'note',
    note: {
      ...{
        event: 'resumed',
        generation: 2,
        program: 1,
        step: 2,
        tpu: null,
        cause: 'all are there',
      },
      elapsedMs: 50,
    },
  },
  { kind: 'evaluating', step: 3, samples: 8 },
  { kind: 'evaluated', step: 3, samples: 8, correct: 4, accuracy: 0.5, loss: 2 },
  { kind: 'stopped', step: 2, steps: 3, saved: true },
  { kind: 'finished', report },
] as unknown as readonly TrainEvent[];

function shownAs(reader: LogReader, lines: readonly string[], terminal = false): string {
  let shown = '';
  const write = (it: string): void => {
    shown += it;
  };
  const text = new LogText({ terminal, columns: 120, write }, reader);
  for (const line of lines) text.write(line);
  text.end();
  return shown;
}

function logged(event: TrainEvent): string {
  let line = '';
  const write = (it: string): void => {
    line = it;
  };
  logEvent(pino({ base: { job: 'pod', role: 'master' } }, { write }), event);
  return line;
}

function drawn(event: TrainEvent): string {
  let shown = '';
  const write = (it: string): void => {
    shown += it;
  };
  new Progress({ terminal: false, columns: 120, write }, () => 0).take(event);
  return shown;
}

function record(fields: Readonly<Record<string, unknown>>): string {
  return `${JSON.stringify({ level: 30, time: 25_509_000, role: 'master', job: 'pod', ...fields })}\n`;
}

test.each(events.map((event) => [event.kind, event] as const))(
  'a log shows the event %s like the run itself',
  (_, event) => {
    expect(shownAs('follower', [logged(event)])).toBe(drawn(event));
    expect(drawn(event)).not.toBe('');
  },
);

test('a step is one line that names the slowest Cloud TPU and the wait that it caused', () => {
  const [step] = events.filter(({ kind }) => kind === 'step');
  const line = drawn(step as TrainEvent);
  expect(line).toMatch(
    /^step 3\/3 [^\n]* slowest Cloud TPU 3 \(update\), the others wait 4.5 ms\n$/,
  );
});

test('a log counts the interrupted step from 1, and the event of the note from 0', () => {
  const [note] = events.filter(({ kind }) => kind === 'note');
  expect(JSON.parse(logged(note as TrainEvent))).toMatchObject({ msg: 'resumed', step: 3 });
  expect(drawn(note as TrainEvent)).toContain('in batch 3 of the evaluation ');
});

test("a step in a master's log shows its epoch, not its generation", () => {
  const [step] = events.filter(({ kind }) => kind === 'step');
  const line = record({ ...step, kind: undefined, epoch: 0.5, generation: 3, msg: 'step' });
  expect(shownAs('follower', [line])).toBe(drawn(step as TrainEvent));
});

describe('a log line that is no event of a run', () => {
  const joined = record({ tpu: 3, generation: 1, hostname: 'b6', host: '10.0.0.4', msg: 'joined' });
  const warned = record({ level: 40, count: 3, waitedMs: 1200, msg: 'log-lines-lost' });
  const failed = record({ level: 50, code: 'bad-data', stack: 'at x', msg: 'DIR: found none' });

  test('is printed with its time for a reader of the log', () => {
    expect(shownAs('reader', [joined, warned, failed]).split('\n')).toEqual([
      '07:05:09Z  Cloud TPU 3: joined (generation 1, hostname b6, host 10.0.0.4)',
      '07:05:09Z  warning: log-lines-lost (count 3, waited 1200 ms)',
      '07:05:09Z  error: DIR: found none (code bad-data)',
      '',
    ]);
  });

  test('is drawn over for a follower of a run, unless it is a warning', () => {
    expect(shownAs('follower', [joined, warned, failed])).toBe(
      'warning: log-lines-lost (count 3, waited 1200 ms)\n',
    );
    expect(shownAs('follower', [joined], true)).toContain('\r\x1b[2KCloud TPU 3: joined');
  });

  test('is printed without control characters and without null', () => {
    const cut = record({ step: 3, reason: 'full \x1b[2J', msg: 'checkpoint-failed' });
    const foreign = 'FATAL \x1b[2J';
    const odd = record({ cause: '\x1b[2Jone\ntwo', step: null, 'a\x1b': 1, msg: 'x\x07' });
    const shown = shownAs('reader', [odd, cut, foreign, '[1]', 'null', '', '\n']);
    expect(shown).not.toMatch(/(?!\n)\p{Cc}/u);
    expect(shown).not.toContain('step null');
    expect(shown.split('\n')).toHaveLength(6);
  });

  test('is printed with its fields when it is an event without numbers', () => {
    const line = record({ step: 3, steps: 3, loss: null, msg: 'step' });
    expect(shownAs('reader', [line])).toBe('07:05:09Z  step (step 3, steps 3)\n');
  });
});

test("steps of a log are printed every two seconds of the log's own time", () => {
  const [step] = events.filter(({ kind }) => kind === 'step');
  const lines = Array.from({ length: 10 }, (_, i) =>
    record({ ...step, step: i + 1, steps: 10, time: 500 * i, msg: 'step' }),
  );
  expect(shownAs('follower', lines).match(/^step +\d+/gm)).toEqual(
    [1, 5, 9, 10].map((it) => `step ${String(it).padStart(2)}`),
  );
});
