import { expect, test } from 'vitest';
import type { Report, StepCommitted } from '../../src/experiment/event.ts';
import { Progress } from '../../src/observe/progress.ts';

function run(terminal: boolean, stepMs: number, steps: number): string {
  let text = '';
  let now = 0;
  const write = (it: string): void => {
    text += it;
  };
  const screen = { terminal, columns: 80, write };
  const progress = new Progress(screen, () => now);
  for (let step = 1; step <= steps; step++, now += stepMs) progress.take(stepEvent(step, steps));
  return text;
}

test('in a pipe a run prints plain lines: the first step, one every two seconds, the last', () => {
  const text = run(false, 500, 10);
  for (const control of ['\r', '\x1b']) expect(text).not.toContain(control);
  expect(text.match(/^step +\d+/gm)).toEqual(['step  1', 'step  5', 'step  9', 'step 10']);
});

test('on a terminal one line is redrawn at most ten times a second, and the last one stays', () => {
  const text = run(true, 50, 11);
  expect(text.match(/step +\d+/g)).toEqual(
    [1, 3, 5, 7, 9, 11].map((it) => `step ${String(it).padStart(2)}`),
  );
  expect(text.split('\n')).toHaveLength(2);
  expect(text.endsWith('\n')).toBe(true);
});

test('each refused, saved and failed checkpoint is one line', () => {
  let text = '';
  const write = (it: string): void => {
    text += it;
  };
  const screen = { terminal: false, columns: 80, write };
  const progress = new Progress(screen, () => 0);
  const refused = [{ name: 'step-0000009', reason: 'manifest.json: cut' }];
  progress.take({ kind: 'resumed', checkpoint: 'step-0000006', step: 6, refused });
  progress.take({ kind: 'resumed', checkpoint: null, step: 0, refused: [] });
  progress.take({ kind: 'checkpoint', step: 9, name: 'step-0000009', bytes: 2048, wallMs: 5 });
  progress.take({ kind: 'checkpoint-failed', step: 12, reason: 'the disk is full' });
  expect(text.split('\n')).toEqual([
    'refused step-0000009: manifest.json: cut',
    'continues from step-0000006, after step 6',
    'no checkpoint to continue from: the run begins at its first step',
    'saved step-0000009: 2.00 KiB in 5.0 ms, in the background',
    'not saved: the disk is full',
    '',
  ]);
});

test.each([
  [3, 0, ['whole step', 'images/s'], ['recoveries', 'trained before']],
  [3, 2, ['whole step', 'recoveries'], ['trained before']],
  [0, 0, ['all 3 steps had been trained before', 'held-out accuracy'], ['whole step', 'images/s']],
])('a run that trained %i steps, with %i recoveries, ends with a summary', (...row) => {
  const [stepsTrained, recoveries, said, unsaid] = row;
  let text = '';
  const write = (it: string): void => {
    text += it;
  };
  const zero = { p50: 0, p90: 0, max: 0 };
  const phases = ['infeed', 'compute', 'all-reduce', 'update', 'outfeed', 'commit'];
  const report = {
    ...{ steps: 3, stepsTrained, recoveries, finalLoss: 1, evalAccuracy: 0.5, evalSamples: 8 },
    ...{ weightsDigest: '00', imagesPerSecond: 0, hbmBytesPerCore: 1, linkBytes: { a: 0 } },
    ...{ stepMs: zero, phaseMs: Object.fromEntries(phases.map((it) => [it, zero])) },
  } as unknown as Report;
  const screen = { terminal: false, columns: 80, write };
  new Progress(screen, () => 0).take({ kind: 'finished', report });
  for (const it of said) expect(text).toContain(it);
  for (const it of unsaid) expect(text).not.toContain(it);
});

test('a narrow terminal is not written beyond its width', () => {
  let text = '';
  const write = (it: string): void => {
    text += it;
  };
  const progress = new Progress({ terminal: true, columns: 10, write }, () => 0);
  progress.take(stepEvent(1, 9));
  expect(text).toBe('\r\x1b[2Kstep 1/9 ');
});

function stepEvent(step: number, steps: number): StepCommitted {
  const zero = { infeed: 0, compute: 0, 'all-reduce': 0, update: 0, outfeed: 0, commit: 0 };
  return {
    kind: 'step',
    step,
    steps,
    epoch: 0,
    loss: 1,
    accuracy: 0.5,
    learningRate: 0.1,
    digest: '0',
    wallMs: 10,
    imagesPerSecond: 100,
    phaseMs: zero,
  };
}
