import { expect, test } from 'vitest';
import { Metrics } from '../../../cluster/master/metrics.ts';
import { RunState } from '../../../cluster/master/run-state.ts';

const events = { ready: () => undefined, lost: () => undefined };

test.each([
  ['takes jobs is ready without a job, until it stops', true],
  ['has one run is not ready before it can run steps', false],
])('a master that %s', (_, serving) => {
  const state = new RunState('pod', new Metrics(), events, serving);
  expect(state.isReady()).toBe(serving);
  expect(state.canStep).toBe(false);
  state.isStopping = true;
  expect(state.isReady()).toBe(false);
});
