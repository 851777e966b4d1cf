import { expect, test } from 'vitest';
import type { StepCommitted } from '../../src/experiment/event.ts';
import { Progress } from '../../src/observe/progress.ts';

function run(terminal: boolean, stepMs: number, steps: number): string {
  let text = '';
  let now = 0;
  const write = (it: string): void => {
    text += it;
  };
  const screen = { terminal, columns: 80, write };
  const progress = new Progress(screen, () => now);
  for (let step = 1; step <= steps; step++, now += stepMs) progress.show(stepEvent(step, steps));
  return text;
}

test('in a pipe a run is plain lines: the first step, one every two seconds, the last', () => {
  const text = run(false, 500, 10);
  for (const control of ['\r', '\x1b']) expect(text).not.toContain(control);
  expect(text.match(/^step +\d+/gm)).toEqual(['step  1', 'step  5', 'step  9', 'step 10']);
});

test('on a terminal one line is drawn over, ten times a second at most, and the last stays', () => {
  const text = run(true, 50, 11);
  expect(text.match(/step +\d+/g)).toEqual(
    [1, 3, 5, 7, 9, 11].map((it) => `step ${String(it).padStart(2)}`),
  );
  expect(text.split('\n')).toHaveLength(2);
  expect(text.endsWith('\n')).toBe(true);
});

test('which checkpoints were refused, saved and not saved is a line each', () => {
  let text = '';
  const write = (it: string): void => {
    text += it;
  };
  const screen = { terminal: false, columns: 80, write };
  const progress = new Progress(screen, () => 0);
  const refused = [{ name: 'step-0000009', reason: 'manifest.json: cut' }];
  progress.show({ kind: 'resumed', checkpoint: 'step-0000006', step: 6, refused });
  progress.show({ kind: 'resumed', checkpoint: null, step: 0, refused: [] });
  progress.show({ kind: 'checkpoint', step: 9, name: 'step-0000009', bytes: 2048, wallMs: 5 });
  progress.show({ kind: 'checkpoint-failed', step: 12, reason: 'the disk is full' });
  expect(text.split('\n')).toEqual([
    'refused step-0000009: manifest.json: cut',
    'goes on from step-0000006, after step 6',
    'no checkpoint to go on from: the run starts anew',
    'saved step-0000009: 2.00 KiB in 5.0 ms, in the background',
    'not saved: the disk is full',
    '',
  ]);
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
