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
